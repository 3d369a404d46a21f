"""What the commands change of the whole process."""

import gc

from streamer.commands.driving import NEW_OBJECTS, spare_garbage


def test_what_is_there_when_a_session_begins_is_never_searched_again_and_what_is_new_less_often():
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)  # Python's own; an earlier test may have run a command
    try:
        spare_garbage()
        assert gc.get_freeze_count() > 1000
        assert gc.get_threshold()[0] == NEW_OBJECTS > 700
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
