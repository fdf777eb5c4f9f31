from hypothesis import given
from hypothesis import strategies as st

from gossipjax.protocol.bounded import BoundedDict


@given(st.lists(st.tuples(st.integers(0, 9), st.integers())), st.integers(1, 5))
def test_a_bounded_dict_keeps_what_was_set_last(items: list[tuple[int, int]], size_max: int):
    bounded = BoundedDict[int, int](size_max)
    order: list[int] = []
    for key, value in items:
        bounded[key] = value
        order = [*(k for k in order if k != key), key][-size_max:]
        assert list(bounded) == order
        assert bounded[key] == value
