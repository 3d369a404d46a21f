"""The morning: what the page says, that it needs nothing else, and that a failed night looks failed."""

import base64
import json
import os
import re
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import edfio
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.cli import main
from streamer.night.session import evening_of, read_night
from streamer.night.statistics import DEFINITIONS
from streamer.report import trend
from streamer.report.canvas import DPI, NARROW, WIDTH
from streamer.report.marks import place_names
from streamer.report.spectrum import compute_multitaper
from streamer.report.verdict import verdict
from tests.night import STARTED, session, stages

NONE = np.zeros((1, 0))  # samples: a night without any is drawn sooner
NIGHT = "WWWW11222233332222RRRR2222W2RRRRWW" * 15  # 255 min


class Page(HTMLParser):
    """Checks that every element is closed, and gathers what would be fetched."""

    def __init__(self, html):
        super().__init__()
        self.open, self.fetched, self.text = [], [], ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "srcset", "data")]
        assert tag not in ("script", "link", "iframe", "object")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def report(*arguments):
    assert main(["report", *map(str, arguments)]) == 0


def width_px(source):
    """Width of a picture that a page has in it."""
    return int.from_bytes(base64.b64decode(source.partition(",")[2])[16:20])


def page(path):
    return Page(path.read_text(encoding="utf-8"))


def test_a_night_becomes_a_page_a_picture_and_numbers(tmp_path, capsys):
    path = session(tmp_path / "night.sqlite", stages(NIGHT), gaps=[(9000, 9500)])
    report(path)
    assert "report: " in capsys.readouterr().out
    found = page(tmp_path / "night.html")
    assert all(source.startswith("data:image/png;base64,") for source in found.fetched)
    assert sorted(map(width_px, found.fetched)) == [
        round(DPI * NARROW),
        round(DPI * WIDTH),
    ]  # the phone.s first
    assert "min-width" not in (tmp_path / "night.html").read_text(), "nothing is wider than a phone"
    assert (tmp_path / "night.png").read_bytes().startswith(b"\x89PNG")
    for _, meaning in DEFINITIONS.values():
        assert meaning in found.text
    assert "500 of 1530000 samples" in found.text
    assert "in 1 gap, the longest 5.0 s" in found.text
    assert "not marked" in found.text
    data = json.loads((tmp_path / "night.json").read_text())
    assert data["statistics"] == read_night(path).statistics().to_json()
    assert data["agreement"] is None


def test_no_figure_of_a_failed_night_stands_unmarked(tmp_path):
    path = session(tmp_path / "bad.sqlite", stages("?" * 300 + "W2" * 80))
    report(path, "--out", tmp_path / "out")
    html = (tmp_path / "out" / "bad.html").read_text()
    assert "This night failed. The figures below are not a result." in html
    assert '<div class="big">' not in html
    assert '<table class="noresult">' in html
    assert "65% of the time in bed" in html


@pytest.mark.parametrize(
    ("letters", "ended", "grade", "why"),
    [
        (NIGHT, True, "whole", ""),
        (NIGHT, False, "partial", "not closed"),
        ("?" * 100 + NIGHT, True, "partial", "could not be scored"),
        ("W2" * 50, True, "partial", "only 50 min"),
        ("?" * 400, True, "failed", "none of the epochs"),
        ("", True, "failed", "no epoch was committed"),
    ],
)
def test_verdicts(tmp_path, letters, ended, grade, why):
    found = verdict(read_night(session(tmp_path / "a.sqlite", stages(letters), ended=ended)))
    assert found.grade == grade
    assert why in "; ".join(found.reasons)
    assert bool(found.reasons) == bool(why)


def test_a_session_without_a_single_epoch_still_gets_its_page(tmp_path):
    report(session(tmp_path / "empty.sqlite", []))
    assert "no epoch was committed" in page(tmp_path / "empty.html").text


def test_lights_marks_and_strange_names_are_shown_and_escaped(tmp_path):
    events = [("lights_off", {"epoch": 4}), ("mark", {"epoch": 20}), ("lights_on", {"epoch": 500})]
    report(session(tmp_path / "a<b>&.sqlite", stages(NIGHT), events=events))
    assert "not marked" not in page(tmp_path / "a<b>&.html").text


@pytest.mark.slow
def test_compare_with_an_edf_on_another_clock(tmp_path, capsys):
    path = session(tmp_path / "night.sqlite", stages(NIGHT))
    shift = 4  # the scorer's file begins so many epochs later
    truth = stages(NIGHT)[shift:]
    notes = [edfio.EdfAnnotation(30.0 * k, 30.0, f"Sleep stage {s}") for k, s in enumerate(truth)]
    from datetime import UTC, datetime

    begin = datetime.fromtimestamp(STARTED + 30 * shift, UTC)
    edfio.Edf(
        [],
        annotations=notes,
        starttime=begin.time(),
        recording=edfio.Recording(startdate=begin.date()),
    ).write(tmp_path / "hypnogram.edf")
    report(path, "--compare", tmp_path / "hypnogram.edf")
    data = json.loads((tmp_path / "night.json").read_text())["agreement"]
    assert (data["n"], data["accuracy"], data["kappa"]) == (len(truth), 1.0, 1.0)
    assert "Agreement with hypnogram.edf" in page(tmp_path / "night.html").text


@pytest.mark.slow
def test_several_nights_become_a_trend_and_a_failed_one_gives_it_no_value(tmp_path, capsys):
    for number, letters in enumerate((NIGHT, "?" * 400, NIGHT)):
        session(tmp_path / f"n{number}.sqlite", stages(letters), started=STARTED + 86_400 * number)
    report(tmp_path, "--out", tmp_path / "out")
    html = (tmp_path / "out" / "trend.html").read_text()
    rows = re.findall(r"<tr><td class=\"t\"><a href=\"(n\d\.html)\">.*?</tr>", html)
    assert rows == ["n0.html", "n1.html", "n2.html"]
    assert html.count('<td class="n">failed</td>') == 8
    assert "anna: 3 nights, 1 failed" in page(tmp_path / "out" / "trend.html").text
    assert html.count("data:image/png") == 2  # for a desktop and for a telephone
    assert all((tmp_path / "out" / name).exists() for name in (*rows, "trend.png"))


@pytest.fixture
def sketched(monkeypatch):
    """Pictures cost time, and are not what these tests are about."""
    for name in ("figure.draw_night", "trend.draw_trend"):
        monkeypatch.setattr(f"streamer.report.{name}", lambda *_, **__: b"\x89PNG")


def replays(folder, count, **more):
    """As `sleepstream replay` leaves them: every session file has the same name."""
    for number in range(count):
        (folder / f"r{number}").mkdir(parents=True)
        plain = {
            "started": STARTED + 86_400 * number,
            "stream": "replay",
            "name": "night",
            "identity": f"i-{number}",
        }
        session(folder / f"r{number}" / "session.sqlite", stages(NIGHT[number:]), **{**plain, **more})


def names_in(folder, ending=".html"):
    return sorted(path.name for path in folder.glob(f"*{ending}"))


@pytest.mark.usefixtures("sketched")
def test_replays_are_found_in_sub_folders_and_named_after_recording_and_night(tmp_path):
    replays(tmp_path / "in", 3, samples=NONE)
    (tmp_path / "in" / "foreign.sqlite").write_bytes(b"SQLite format 3\0" + bytes(200))
    report(tmp_path / "in")
    dates = ["2025-06-15", "2025-06-16", "2025-06-17"]
    assert names_in(tmp_path / "in") == [*(f"night-{date}.html" for date in dates), "trend.html"]
    text = page(tmp_path / "in" / "trend.html").text
    assert [date in text for date in dates] == [True] * 3


@pytest.mark.usefixtures("sketched")
def test_no_report_overwrites_another_s(tmp_path):
    replays(tmp_path / "one", 2, started=STARTED, samples=NONE)  # the same recording, staged twice
    report(tmp_path / "one", "--out", tmp_path / "out")
    assert names_in(tmp_path / "out") == ["night-2025-06-15-0.html", "night-2025-06-15-1.html", "trend.html"]
    replays(tmp_path / "two", 1, samples=NONE)
    replays(tmp_path / "three", 1, samples=NONE, identity="i-77")
    for folder in ("two", "three", "three"):
        report(tmp_path / folder / "r0" / "session.sqlite", "--out", tmp_path / "out")
    sessions = {
        name: json.loads((tmp_path / "out" / name).read_text())["session"]
        for name in names_in(tmp_path / "out", ".json")
    }
    assert sessions == {
        "night-2025-06-15-0.json": "i-0",
        "night-2025-06-15-1.json": "i-1",
        "night-2025-06-15.json": "i-0",
        "night-2025-06-15-77.json": "i-77",
    }


@pytest.mark.usefixtures("sketched")
def test_a_file_that_is_no_report_is_not_overwritten(tmp_path):
    path = session(tmp_path / "a.sqlite", stages(NIGHT), samples=NONE)
    (tmp_path / "a.json").write_text('{"mine": 1}')
    report(path)
    assert (tmp_path / "a.json").read_text() == '{"mine": 1}'
    assert (tmp_path / "a-s1.html").exists()


@pytest.mark.usefixtures("sketched")
def test_only_what_changed_is_drawn_again(tmp_path, capsys):
    replays(tmp_path, 3, samples=NONE)
    report(tmp_path)
    assert "nothing has changed" not in capsys.readouterr().out
    drawn = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.*")}
    report(tmp_path)
    assert capsys.readouterr().out.count("(nothing has changed)") == 4
    assert drawn == {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.*")}
    changed = tmp_path / "r1" / "session.sqlite"
    os.utime(changed, (1, 1))
    (tmp_path / "night-2025-06-17.png").unlink()
    report(tmp_path)
    said = capsys.readouterr().out
    assert "15.html (nothing has changed)" in said
    assert said.count("(nothing has changed)") == 1


@pytest.mark.usefixtures("sketched")
def test_a_comparison_that_is_asked_for_is_drawn(tmp_path, capsys):
    path = session(tmp_path / "a.sqlite", stages(NIGHT), samples=NONE)
    report(path)
    (tmp_path / "other.txt").write_text("\n".join(stages(NIGHT[::-1])))
    for _ in range(2):
        report(path, "--compare", tmp_path / "other.txt")
    said = capsys.readouterr().out
    assert said.count("agreement with other.txt: 510 epochs") == 2
    assert said.count("doubtful: ") == 2
    assert "Read this agreement with care" in page(tmp_path / "a.html").text


@pytest.mark.usefixtures("sketched")
def test_one_session_that_cannot_be_read_does_not_stop_the_others(tmp_path, capsys):
    replays(tmp_path, 1, samples=NONE)
    (tmp_path / "bad.sqlite").write_bytes(b"no database at all" * 99)
    assert main(["report", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "bad.sqlite" in said.err
    assert "report: " in said.out


@pytest.mark.parametrize(
    ("started", "source", "evening"),
    [
        (1_750_028_400.0, "replay", "2025-06-15"),  # 23:00
        (1_750_037_400.0, "replay", "2025-06-15"),  # 01:30 of the 16th
        (1_749_996_000.0, "replay", "2025-06-15"),  # a nap at 14:00
        (473_385_600.0, "replay", None),  # a date that was taken out
    ],
)
def test_a_night_has_the_date_of_its_evening(tmp_path, started, source, evening):
    night = read_night(session(tmp_path / "a.sqlite", [], started=started, source=source))
    assert evening_of(night.meta) == (evening and date.fromisoformat(evening))
    assert (night.described()["started"] is None) == (evening is None)


@pytest.mark.parametrize("starts", [[0, 0, 0], [0, 1, 2], [0, 400, 800], [0]])
@pytest.mark.parametrize("streams", ["anna", "anna ben"])
def test_the_trend_s_axis_says_the_table_s_dates_without_a_warning(tmp_path, starts, streams):
    nights = [
        read_night(
            session(
                tmp_path / f"{stream}{k}.sqlite",
                stages(NIGHT),
                started=1_750_037_400.0 + 86_400 * start,
                samples=NONE,
                stream=stream,
            )
        )
        for k, start in enumerate(starts)
        for stream in streams.split()
    ]
    places, names = trend._places(nights)
    expected = [evening_of(night.meta) for night in nights]
    assert [name.split("\n")[0] for name in names] == [f"{day.day} {day:%b}" for day in expected]
    assert np.ptp(places) <= max(max(starts), len(nights))
    assert trend.draw_trend(nights).startswith(b"\x89PNG")
    assert trend.draw_trend(nights, narrow=True).startswith(b"\x89PNG")


def test_recordings_of_one_date_are_told_apart_on_the_axis(tmp_path):
    nights = [
        read_night(
            session(tmp_path / f"{k}.sqlite", stages(NIGHT), samples=NONE, stream="replay", name=f"rec{k}")
        )
        for k in range(3)
    ]
    places, names = trend._places(nights)
    assert (list(places), names) == ([0, 1, 2], ["15 Jun\nrec0", "15 Jun\nrec1", "15 Jun\nrec2"])


@given(
    places=st.lists(st.floats(0, 1), max_size=60),
    texts=st.lists(
        st.sampled_from(["alarm", "trigger", "lights off", "lights on", "a longer mark", "x"]),
        min_size=60,
        max_size=60,
    ),
)
@example(places=[0.98, 0.981, 0.982, 0.983], texts=["alarm"] * 60)
def test_names_above_a_picture_never_collide(places, texts):
    character = 0.006
    marks = list(zip(places, texts, strict=False))
    found = place_names(marks, character)
    assert bool(found) == bool(marks)
    for number, one in enumerate(found):
        for other in found[number + 1 :]:
            apart = (len(one.text) + len(other.text)) / 2 * character
            assert one.row != other.row or abs(one.at - other.at) >= apart - 1e-9
    if len(set(texts)) == 1 and marks:
        assert sum(int(one.text.split()[0]) if one.text[0].isdigit() else 1 for one in found) == len(marks)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.sqlite"], "no session file"),
        (["."], "has no session file"),
    ],
)
def test_errors_are_one_line(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *arguments]) in (1, 2)
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1


def test_the_multitaper_keeps_power_and_frequency():
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 10, 3000 * 4).astype(np.float32)  # 100 µV² over 50 Hz: 2 µV²/Hz
    tone = (20 * np.sin(2 * np.pi * 12 * np.arange(3000) / 100)).astype(np.float32)  # 200 µV² over 1 Hz
    lost = np.full(3000, np.nan, dtype=np.float32)
    found = compute_multitaper(np.concatenate([noise, tone, lost]))
    assert np.abs(found.decibel[:4].mean() - 10 * np.log10(2)) < 0.3
    assert abs(found.hz[found.decibel[4].argmax()] - 12) <= 0.5
    assert abs(found.decibel[4].max() - 10 * np.log10(200)) < 1
    assert np.isnan(found.decibel[5]).all()


def test_nothing_of_a_picture_library_is_loaded_for_other_commands():
    source = Path(__file__).parents[2] / "streamer"
    users = [
        path.name
        for path in source.rglob("*.py")
        if "import matplotlib" in path.read_text() or "from matplotlib" in path.read_text()
    ]
    assert set(users) == {"canvas.py", "figure.py", "trend.py"}
