"""Rung 7: a disputed segment, narrowed down to the one step that decides it.

Author and auditor agree on the state at the start of a segment and disagree on the end. Then there
is a step whose start they agree on and whose result they do not; binary search finds one with
⌈log2 k⌉ questions, whatever they agree on in between. A judge who trusts neither redoes that step
alone, from the state that both accept. Over one step rounding has no time to grow, so this decides
also where a whole segment cannot: an honest author is off by little in every single step.

References:
    Canetti, Riva, Rothblum 2011, "Practical Delegation of Computation using Multiple Servers"
    (refereed delegation); Arun et al. 2025, "Verde: Verification via Refereed Delegation for
    Machine Learning Programs".
"""

from gossipjax.errors import LocalProtocolError


class Bisection:
    """Searches for the disputed step.

    Keeps true: the parties agree on the state before step `agreed`, and not on the one before step
    `disputed`, `agreed < disputed`.

    Args:
        steps: of the segment, at least 1.
    """

    def __init__(self, steps: int):
        if steps < 1:
            raise ValueError(f"a segment has at least one step, got {steps}")
        self.agreed = 0
        self.disputed = steps

    @property
    def question(self) -> int | None:
        """The number of steps after which to compare states next; None when the step is found."""
        if self.disputed - self.agreed == 1:
            return None
        return (self.agreed + self.disputed) // 2

    def answer(self, do_agree: bool) -> None:
        """Say whether the parties agree on the state that was asked for.

        Raises:
            LocalProtocolError: nothing was asked.
        """
        asked = self.question
        if asked is None:
            raise LocalProtocolError(f"the disputed step is found: {self.step}")
        if do_agree:
            self.agreed = asked
        else:
            self.disputed = asked

    @property
    def step(self) -> int:
        """The disputed step, from 0: redo it from the state before it.

        Raises:
            LocalProtocolError: not found yet.
        """
        if self.question is not None:
            raise LocalProtocolError(f"not found yet: compare the states after {self.question}")
        return self.agreed
