"""How long to wait before a retry."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.clock import retry_after_s


@given(failures=st.integers(1, 10_000))
def test_a_pause_doubles_up_to_the_longest_and_is_drawn_from_its_upper_half(failures):
    longest_s = min(30.0, 0.5 * 2.0 ** min(failures - 1, 100))
    assert longest_s / 2 <= retry_after_s(failures, 0.5, 30.0) <= longest_s


def test_no_two_wait_equally_long():
    assert len({retry_after_s(5, 1.0, 60.0) for _ in range(20)}) > 1
