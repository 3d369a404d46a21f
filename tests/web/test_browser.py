"""The page in headless Chromium against a running engine.

SLEEPSTREAM_SCREENSHOTS names a folder in which the pictures are kept.
"""

import itertools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from streamer.web.server import POLICY
from tests.mosquitto import free_port
from tests.web.chromium import PROGRAM, chromium, until

PATIENCE_MS = 30_000  # on a machine that does other things as well
expect.set_options(timeout=PATIENCE_MS)
SIZES = {"phone": (390, 844), "desktop": (1280, 900)}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="no chromium here; .ci/run installs it"),
]


class Night:
    """The engine's process."""

    def __init__(self, folder):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self._folder = folder
        self.start()

    def start(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.web.night", str(self.port), str(self._folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout.readline() == "ready\n"

    def end(self, how=signal.SIGTERM):
        self._process.send_signal(how)
        self._process.wait(60)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    running = Night(tmp_path_factory.mktemp("sessions"))
    yield running
    running.end()


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def watched(browser):
    """A page whose every message and request is remembered."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, timezone_id="UTC")
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.said, page.asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("websocket", lambda found: page.asked.append(found.url))
    yield page
    context.close()


def stage_is_shown(page):
    expect(page.locator("#stage")).to_have_text(re.compile(r"^(W|N1|N2|N3|R|unscored)$"))


def texts(page, chart):
    return [one["text"] for one in page.evaluate(f"charts.written.{chart}")]


def keep(page, name):
    folder = os.environ.get("SLEEPSTREAM_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def test_what_happened_before_the_first_epoch_stays(night, watched):
    watched.goto(night.url)
    stage_is_shown(watched)
    watched.evaluate(
        """() => {
            socket.onmessage = null;
            const none = { labels: "", grades: "", density: "", spectrum: "", eeg: null };
            const news = { ...streams.get(chosen), ...none, session: "another", from: 0, age_s: 0 };
            take({ streams: [{ ...news, events: [{ seq: 0, t: 0, event: "mark", text: "early" }] }] });
            take({ streams: [{ ...news, events: [] }] });
        }"""
    )
    assert "early" in watched.locator("#events").inner_text()


@pytest.mark.parametrize("size", SIZES)
def test_everything_is_there_and_nothing_leaves_the_machine(night, watched, size):
    width, height = SIZES[size]
    watched.set_viewport_size({"width": width, "height": height})
    response = watched.goto(night.url)
    assert response.headers["content-security-policy"] == POLICY
    stage_is_shown(watched)
    for chart in ("eeg", "night"):
        until(watched, f"document.querySelector('#{chart} canvas') && charts.written.{chart}.length")
    expect(watched.locator("#sure")).to_have_text(re.compile(r"% sure|not scored"))
    expect(watched.locator("#quality")).to_have_text(re.compile(r"^signal (good|fair|poor|off)"))
    expect(watched.locator("#lost")).to_have_text(re.compile(r"lost"))
    expect(watched.locator("#banner")).to_be_hidden()
    expect(watched.locator("#sleepers button")).to_have_count(2)
    expect(watched.locator("#events")).to_contain_text("session started")
    assert "µV" in " ".join(texts(watched, "eeg"))
    assert {"EOG L", "EMG chin", "EOG X: no such channel in this stream"} <= set(texts(watched, "eeg"))
    assert {"W", "R", "N1", "N2", "N3", "100 %", "5 Hz", "quality"} <= set(texts(watched, "night"))
    assert watched.locator("#stage").evaluate("e => parseFloat(getComputedStyle(e).fontSize)") >= 30
    assert watched.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling"
    keep(watched, size)
    assert watched.said == []
    hosts = {url.split("/")[2] for url in watched.asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {f"127.0.0.1:{night.port}"}


# Eight hours, then a week: every length has its own labels below the night. The signal is crowded with
# marks, and the widest words are said of the stage.
NIGHT_OF = """(epochs) => {
    socket.onmessage = null;
    const one = streams.get(chosen);
    one.session = `of ${epochs}`;
    one.labels = "WW12233R?".repeat(epochs / 9 + 1).slice(0, epochs);
    one.grades = "gfpo".repeat(epochs / 4 + 1).slice(0, epochs);
    one.density = Array.from({ length: epochs }, () => Uint8Array.of(51, 51, 51, 51, 51));
    one.spectrum = Array.from({ length: epochs }, () => new Uint8Array(BINS).fill(120));
    one.events = Array.from({ length: 80 }, (_, k) => ({
        event: "marker", text: "", t: 0, mark: `S ${k}`, at_s: one.end_s - 30 + k ** 1.3 / 10,
    }));
    const quality = { grade: "off", reasons: ["lost", "no signal"], lost_fraction: 1 };
    one.stage = { ...one.stage, stage: "unscored", probabilities: null, confidence: null, quality };
    show();
}"""


@pytest.mark.parametrize("epochs", [5, 960, 20_160])
def test_labels_collide_at_no_width_and_stay_on_the_chart(night, watched, epochs):
    watched.goto(night.url)
    stage_is_shown(watched)
    watched.evaluate(NIGHT_OF, epochs)
    for width in (280, 320, 360, 390, 480, 601, 768, 1024, 1280, 1920):
        watched.set_viewport_size({"width": width, "height": 900})
        watched.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        keep(watched, f"night-{epochs}-{width}")
        for chart in ("eeg", "night"):
            room = watched.evaluate(f"[at('{chart}').clientWidth, at('{chart}').clientHeight]")
            boxes = watched.evaluate(f"charts.written.{chart}")
            for one, other in itertools.combinations(boxes, 2):
                assert not overlap(one, other), (width, one, other)
            for one in boxes:
                assert min(one["left"], one["top"]) >= 0, (width, one)
                assert one["right"] <= room[0], (width, one)
                assert one["bottom"] <= room[1], (width, one)
        named = [text for text in texts(watched, "eeg") if text.startswith("S ")]
        assert 2 <= len(named) < 80, (width, named)
        times = [text for text in texts(watched, "night") if ":" in text]
        assert len(times) >= 2, (width, times)
        assert watched.evaluate("document.documentElement.scrollWidth <= innerWidth"), width


def overlap(one, other):
    return not (
        one["right"] <= other["left"]
        or other["right"] <= one["left"]
        or one["bottom"] <= other["top"]
        or other["bottom"] <= one["top"]
    )


@pytest.mark.parametrize("state", ["disarmed", "armed", "ringing", "snoozed"])
def test_the_alarm_s_buttons_stay_in_one_line_at_any_width(night, watched, state):
    watched.goto(night.url)
    watched.locator("#sleepers button", has_text="ben").click()
    watched.evaluate(
        """(state) => {
            socket.onmessage = null;
            Object.assign(streams.get("ben").alarm, { state, deadline: 0 });
            show();
        }""",
        state,
    )
    for width in (320, 390, 601, 1280):
        watched.set_viewport_size({"width": width, "height": 900})
        keep(watched, f"alarm-{state}-{width}")
        shown = watched.locator("#alarm_controls button:visible").all()
        assert shown
        boxes = [one.bounding_box() for one in shown]
        assert len({round(box["y"]) for box in boxes}) == 1, width
        assert max(box["height"] for box in boxes) < 60, "a button of two lines"
        assert max(box["x"] + box["width"] for box in boxes) <= width


def test_the_page_loads_little_script_and_only_its_own(night, watched):
    loaded = {}
    watched.on("response", lambda found: loaded.update({found.url: found}))
    watched.goto(night.url)
    stage_is_shown(watched)
    watched.wait_for_selector("#night canvas")
    scripts = [one for one in loaded.values() if one.request.resource_type == "script"]
    assert len(scripts) == watched.evaluate("document.scripts.length") > 0
    assert sum(len(one.body()) for one in scripts) <= 300_000


def test_the_stage_follows(night, watched):
    watched.goto(night.url)
    stage_is_shown(watched)
    for _ in range(3):
        before = watched.locator("#clock").inner_text()
        expect(watched.locator("#clock")).not_to_have_text(before)


# Pixels of a colour in the chart of the signal, and the first and last of its rows and columns.
INKED = """(colour) => {
    const canvas = document.querySelector("#eeg canvas");
    const [wide, high] = [canvas.width, canvas.height];
    const data = canvas.getContext("2d").getImageData(0, 0, wide, high).data;
    const wanted = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    const found = { n: 0, top: high, bottom: 0, left: wide, right: 0 };
    for (let k = 0; k < data.length; k += 4) {
        if (wanted.some((value, part) => Math.abs(data[k + part] - value) > 24)) continue;
        const [x, y] = [(k / 4) % wide, Math.floor(k / 4 / wide)];
        found.n += 1;
        Object.assign(found, { top: Math.min(found.top, y), bottom: Math.max(found.bottom, y) });
        Object.assign(found, { left: Math.min(found.left, x), right: Math.max(found.right, x) });
    }
    return found;
}"""


@pytest.mark.parametrize("size", SIZES)
def test_other_channels_stand_below_the_staged_one_with_what_was_marked(night, watched, size):
    watched.set_viewport_size(dict(zip(("width", "height"), SIZES[size], strict=True)))
    watched.goto(night.url)
    stage_is_shown(watched)
    watched.evaluate(
        """() => {
            socket.onmessage = null;
            const one = streams.get(chosen);
            const numbers = Int16Array.from({ length: 3000 }, (_, k) => 1000 * Math.sin(k / 30));
            one.eeg = numbers;
            const drawn = { numbers, step: 0.1, offset: 0 };
            one.traces.filter((trace) => !trace.missing).forEach((trace) => Object.assign(trace, drawn));
            one.events = [];
            show();
        }"""
    )
    staged, eog, emg = (watched.evaluate(INKED, colour) for colour in ("#8fd0a5", "#e3c46b", "#d58fb8"))
    assert min(one["n"] for one in (staged, eog, emg)) > 20
    assert staged["bottom"] < eog["top"] < eog["bottom"] < emg["top"]
    assert staged["left"] == pytest.approx(eog["left"], abs=2)
    assert staged["right"] == pytest.approx(emg["right"], abs=2)
    watched.evaluate(
        """() => {
            const one = streams.get(chosen);
            one.events = [["marker", "S  7", 20], ["trigger", "click", 10], ["mark", "early", 31]].map(
                ([event, mark, ago]) => ({ event, mark, at_s: one.end_s - ago, t: 0, text: "" }));
            show();
        }"""
    )
    keep(watched, f"traces-{size}")
    written = {one["text"]: one for one in watched.evaluate("charts.written.eeg")}
    assert {"S  7", "click"} <= set(written)
    assert "early" not in written
    width = staged["right"] - staged["left"]
    middle = (written["click"]["left"] + written["click"]["right"]) / 2
    assert middle == pytest.approx(staged["left"] + width * 2 / 3, abs=4)
    line = watched.evaluate(INKED, "#ffb454")  # the trigger's, through all traces
    assert line["bottom"] > emg["bottom"]
    watched.locator("#sleepers button", has_text="ben").click()
    until(watched, "!charts.written.eeg.some((one) => one.text === 'EOG L')")


def test_the_other_sleeper(night, watched):
    watched.goto(night.url)
    watched.locator("#sleepers button", has_text="ben").click()
    expect(watched.locator("#source")).to_contain_text("simulated-4")
    expect(watched.locator("#lost")).to_have_text("nothing lost")


def test_buttons_reach_the_engine_and_are_confirmed(night, watched):
    watched.goto(night.url)
    stage_is_shown(watched)
    for name in ("lights off", "mark", "lights on"):
        watched.get_by_role("button", name=name, exact=True).click()
        expect(watched.locator("#events")).to_contain_text(name)
    watched.locator("#dim").click()
    expect(watched.locator("body")).to_have_class("dim")
    watched.reload()
    expect(watched.locator("body")).to_have_class("dim")
    assert watched.said == []


def test_the_alarm_is_armed_and_disarmed_where_there_is_one(night, watched):
    watched.goto(night.url)
    watched.locator("#sleepers button", has_text="ben").click()
    expect(watched.locator("#alarm_state")).to_have_text("no alarm")
    watched.locator("#alarm_time").fill("06:30")
    watched.locator("#arm_alarm").click()
    expect(watched.locator("#alarm_state")).to_have_text("alarm armed, by 06:30")
    expect(watched.locator("#snooze_alarm")).to_be_hidden()
    keep(watched, "alarm")
    watched.locator("#disarm_alarm").click()
    expect(watched.locator("#alarm_state")).to_have_text("no alarm")
    watched.locator("#sleepers button", has_text="anna").click()
    expect(watched.locator("#alarm")).to_be_hidden()


def test_it_says_when_the_engine_is_gone_and_comes_back_with_it(night, watched):
    watched.goto(night.url)
    stage_is_shown(watched)
    night.end(signal.SIGKILL)
    expect(watched.locator("#banner")).to_contain_text("No connection to the engine")
    expect(watched.locator("#now")).to_have_class("old")
    expect(watched.locator("#mark")).to_be_disabled()
    keep(watched, "disconnected")
    night.start()
    expect(watched.locator("#banner")).to_be_hidden()
    expect(watched.locator("#now")).not_to_have_class("old")
    stage_is_shown(watched)


def test_what_was_missed_is_caught_up(night, watched):
    watched.goto(night.url)
    stage_is_shown(watched)
    labels = "streams.get(chosen).labels"
    watched.evaluate("socket.onmessage = null")  # as a phone that sleeps: it hears nothing
    had = watched.evaluate(f"{labels}.length")
    before = watched.locator("#clock").inner_text()
    watched.evaluate("told = tried = Date.now() - 60000; wake()")
    expect(watched.locator("#clock")).not_to_have_text(before)
    assert watched.evaluate(f"{labels}.length") > had
    assert watched.evaluate("streams.get(chosen).density.every((d) => d.length === 5)")


def test_old_data_are_said_to_be_old(night, watched):
    watched.goto(night.url)
    stage_is_shown(watched)
    watched.evaluate("socket.onmessage = null; streams.get(chosen).heard -= 300000; say()")
    expect(watched.locator("#banner")).to_have_text(re.compile(r"^The data are 5 min old\.$"))
    expect(watched.locator("#now")).to_have_class("old")
