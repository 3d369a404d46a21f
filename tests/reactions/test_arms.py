"""The list of arms: a line for each firing, and no disk that it waits for holds up a trigger."""

import json
import threading

import pytest

from streamer.clock import SystemClock
from streamer.errors import SinkError
from streamer.news import Arm, Online
from streamer.reactions.arms import ArmList, arm_path
from streamer.sinks.handover import Aside

ARM = Arm("cue", 3, "sham", 1_750_000_000.0)


def test_each_arm_is_a_line_and_nothing_else_is(tmp_path):
    path = arm_path(tmp_path / "s.sqlite")
    arms = ArmList(path)
    for news in (ARM, Online(True), ARM):
        arms.hear("anna", news)
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"trigger": "cue", "number": 3, "arm": "sham", "t_end": 1_750_000_000.0}
    ] * 2
    with pytest.raises(SinkError, match="the arms follow from the seed"):
        ArmList(tmp_path / "none" / "s.arms.jsonl").hear("anna", ARM)


def test_a_disk_that_hangs_holds_up_only_the_list(tmp_path, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr("streamer.host.private.opener", lambda *_: over.wait(60) and 1 / 0)
    with Aside(ArmList(tmp_path / "s.arms.jsonl"), SystemClock()) as aside:
        aside.hear("anna", ARM)
        over.set()
    assert aside.failures == 1
