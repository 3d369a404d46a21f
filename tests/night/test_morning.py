"""What is written of a night, by the process that writes it; and which sessions still owe it."""

import asyncio
import json
import os
from datetime import UTC, date

import pytest

from streamer.errors import SleepstreamError
from streamer.night.morning import UNKNOWN, Morning, write_aside
from streamer.night.settings import NightSettings
from tests.fakes import FakeClock
from tests.night import STARTED, session, stages

DAY = 86400.0
NIGHT = "W" * 20 + "2" * 60 + "3" * 40 + "R" * 20


def night(folder, day=0, labels=NIGHT, **more):
    """A night of `anna` that began so many days after the first."""
    identity = f"202001{day + 10}T230000Z-anna-{day:06x}"
    return session(
        folder / f"{identity}.sqlite",
        stages(labels),
        started=STARTED + day * DAY,
        identity=identity,
        source="lsl",
        **more,
    )


def morning(folder, days=1.0, **settings):
    """Of somebody who looks so many days after the first night began."""
    clock = FakeClock(STARTED + days * DAY)
    turn = asyncio.Semaphore(1)
    return Morning(NightSettings(**settings), UTC, folder, "node", "anna", clock, turn)


@pytest.mark.slow
def test_a_process_of_its_own_writes_report_and_trend(tmp_path):
    first, second = night(tmp_path), night(tmp_path, 1)

    async def run():
        one, two = morning(tmp_path), morning(tmp_path, 2)
        figures = await asyncio.to_thread(one.figures, first)
        told = await one.report(first, figures)
        assert (told.report, told.trend) == (f"{first.stem}.html", None)
        return await two.report(second, await asyncio.to_thread(two.figures, second))

    told = asyncio.run(run())
    assert (told.report, told.picture, told.trend) == (
        f"{second.stem}.html",
        f"{second.stem}.png",
        "trend-anna.html",
    )
    for name in (told.report, told.picture, told.trend):
        assert (tmp_path / name).stat().st_size > 10_000
    assert json.loads((tmp_path / f"{second.stem}.json").read_text())["statistics"] == told.statistics
    titles = [link.title for link in morning(tmp_path).links()]
    assert titles == ["trend", "2020-01-02", "2020-01-01"] or len(titles) == 3
    assert morning(tmp_path, 2).owed(None, 0) == [first, second]  # nobody has heard of them
    for one in (first, second):
        morning(tmp_path).said(one)
    assert morning(tmp_path, 2).owed(None, 0) == []


def test_what_cannot_be_read_is_said_in_one_line(tmp_path):
    broken = tmp_path / "x.sqlite"
    broken.write_text("nothing")
    with pytest.raises(SleepstreamError, match=r"x\.sqlite") as caught:
        asyncio.run(write_aside([broken]))
    assert "\n" not in str(caught.value)


def test_the_figures_of_a_night(tmp_path):
    figures = morning(tmp_path).figures(night(tmp_path, events=[("lights_off", {"epoch": 10})]))
    assert figures.statistics["sol_min"] == 5
    assert figures.statistics["r_min"] == 10
    assert figures.statistics["n3_min"] == 20
    assert figures.scored_min == 70
    assert (figures.started.timestamp(), figures.ended.timestamp()) == (STARTED + 300, STARTED + 4200)
    assert isinstance(figures.date, date)
    assert figures.report is None
    assert morning(tmp_path).figures(night(tmp_path, 1, "22??")) is None
    assert morning(tmp_path).figures(night(tmp_path, 2, ended=False)).reason == UNKNOWN


def test_sessions_owe_a_report_once_they_are_over_and_for_a_week(tmp_path):
    old, died, fine, active = (
        night(tmp_path, 0),
        night(tmp_path, 5, ended=False),
        night(tmp_path, 6),
        night(tmp_path, 8, ended=False),
    )
    now = morning(tmp_path, 8.1)
    assert now.owed(active, 1800) == [died, fine]
    assert now.owed(None, 1800) == [died, fine, active]
    assert old not in now.owed(None, 0)
    html = fine.with_suffix(".html")
    html.write_text("a report")
    fine.with_suffix(".json").write_text(json.dumps({"session": fine.stem}))
    assert fine not in now.owed(None, 1800)
    os.utime(html, (0, STARTED))  # made by hand, in the middle of the night
    assert fine in now.owed(None, 1800)


def test_the_last_night_is_remembered_and_no_earlier_one_replaces_it(tmp_path):
    now = morning(tmp_path, 3)
    assert now.last() is None
    first, second = (now.figures(night(tmp_path, day)) for day in (0, 1))
    now.keep(second)
    now.keep(first)
    assert morning(tmp_path).last() == second
    (tmp_path / "anna@node.night.json").write_text("{")
    assert now.last() is None
    assert (tmp_path / "anna@node.night.json").stat().st_mode & 0o077 == 0
