"""What the commands change of the whole process."""

import gc

from streamer.commands.driving import spare_garbage


def test_what_is_there_when_a_session_begins_is_never_searched_again():
    try:
        spare_garbage()
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()
