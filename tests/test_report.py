"""The morning: what the page says, that it needs nothing else, and that a failed night looks failed."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import edfio
import numpy as np
import pytest

from streamer.cli import main
from streamer.report.spectrum import multitaper
from streamer.report.verdict import verdict
from streamer.session import read_night
from streamer.statistics import DEFINITIONS
from tests.nights import STARTED, session, stages

NIGHT = "WWWW11222233332222RRRR2222W2RRRRWW" * 15  # 255 min


class Page(HTMLParser):
    """Checks that every element is closed, and gathers what would be fetched."""

    def __init__(self, html):
        super().__init__()
        self.open, self.fetched, self.text = [], [], ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "srcset", "data")]
        assert tag not in ("script", "link", "iframe", "object")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def report(*arguments):
    assert main(["report", *map(str, arguments)]) == 0


def page(path):
    return Page(path.read_text(encoding="utf-8"))


def test_a_night_becomes_a_page_a_picture_and_numbers(tmp_path, capsys):
    path = session(tmp_path / "night.sqlite", stages(NIGHT), gaps=[(9000, 9500)])
    report(path)
    assert "report: " in capsys.readouterr().out
    found = page(tmp_path / "night.html")
    assert all(source.startswith("data:image/png;base64,") for source in found.fetched)
    assert len(found.fetched) == 1
    assert (tmp_path / "night.png").read_bytes().startswith(b"\x89PNG")
    for _, meaning in DEFINITIONS.values():
        assert meaning in found.text
    assert "500 of 1530000 samples" in found.text
    assert "in 1 gaps, the longest 5.0 s" in found.text
    assert "never marked" in found.text
    data = json.loads((tmp_path / "night.json").read_text())
    assert data["statistics"] == read_night(path).statistics().to_json()
    assert data["agreement"] is None


def test_no_figure_of_a_failed_night_stands_unmarked(tmp_path):
    path = session(tmp_path / "bad.sqlite", stages("?" * 300 + "W2" * 80))
    report(path, "--out", tmp_path / "out")
    html = (tmp_path / "out" / "bad.html").read_text()
    assert "This night failed. The figures below are no result." in html
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
        ("?" * 400, True, "failed", "not one epoch"),
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
    assert "never marked" not in page(tmp_path / "a<b>&.html").text


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


def test_several_nights_become_a_trend_and_a_failed_one_gives_it_no_value(tmp_path, capsys):
    for number, letters in enumerate((NIGHT, "?" * 400, NIGHT)):
        session(tmp_path / f"n{number}.sqlite", stages(letters), started=STARTED + 86_400 * number)
    report(tmp_path, "--out", tmp_path / "out")
    html = (tmp_path / "out" / "trend.html").read_text()
    rows = re.findall(r"<tr><td><a href=\"(n\d\.html)\">.*?</tr>", html)
    assert rows == ["n0.html", "n1.html", "n2.html"]
    assert html.count('<td class="n">failed</td>') == 8
    assert "3 nights, 1 of them failed" in page(tmp_path / "out" / "trend.html").text
    assert all((tmp_path / "out" / name).exists() for name in (*rows, "trend.png"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.sqlite"], "no session file"),
        (["."], "holds no session"),
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
    found = multitaper(np.concatenate([noise, tone, lost]))
    assert np.abs(found.decibel[:4].mean() - 10 * np.log10(2)) < 0.3
    assert abs(found.hz[found.decibel[4].argmax()] - 12) <= 0.5
    assert abs(found.decibel[4].max() - 10 * np.log10(200)) < 1
    assert np.isnan(found.decibel[5]).all()


def test_nothing_of_a_picture_library_is_loaded_for_other_commands():
    source = Path(__file__).parent.parent / "streamer"
    users = [
        path.name
        for path in source.rglob("*.py")
        if "import matplotlib" in path.read_text() or "from matplotlib" in path.read_text()
    ]
    assert set(users) == {"canvas.py", "figure.py", "trend.py"}
