"""The engine of chaos puts its clock and its witness where the real engine looks for its own."""

import pytest

from tests.chaos.engine import CLOCK, JOURNAL


@pytest.mark.parametrize(("ours", "module", "name"), [CLOCK, JOURNAL])
def test_what_is_put_in_has_a_place_to_go(ours, module, name):
    assert issubclass(ours, getattr(module, name))
