"""Whether an update is what its author says: the numerical checks, each usable alone.

Cheapest first: `direction` (is it like the others, is it a copy), `probe` (does it lower the loss
on data that the author does not know), `recompute` (does the committed training give the committed
result), `bisection` (which single step is wrong). Admission (finite values, norms) comes before all
of them: `gossipjax.wire.tensors.check_values`.
"""
