"""The report's HTML: one self-contained file, for a screen, a phone and paper."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from streamer import __version__
from streamer.messages import STAGES
from streamer.night.scoring.comparison import Comparison
from streamer.night.session import Night, evening_of
from streamer.night.statistics import DEFINITIONS
from streamer.report.verdict import Verdict, verdict

NAMES = {
    "tib_min": "TIB",
    "spt_min": "SPT",
    "tst_min": "TST",
    "se_percent": "SE",
    "sol_min": "SOL",
    "sol_persistent_min": "SOL, persistent",
    "waso_min": "WASO",
    "latency_n1_min": "N1 latency",
    "latency_n2_min": "N2 latency",
    "latency_n3_min": "N3 latency",
    "latency_r_min": "R latency",
    "rem_latency_min": "REM latency",
    "w_min": "W",
    "n1_min": "N1",
    "n2_min": "N2",
    "n3_min": "N3",
    "r_min": "R",
    "n1_percent": "N1 share",
    "n2_percent": "N2 share",
    "n3_percent": "N3 share",
    "r_percent": "R share",
    "awakenings": "awakenings",
    "shifts_per_hour": "stage shifts",
    "cycles": "cycles",
    "unscored_min": "unscored",
    "no_signal_min": "no signal",
}
HEADLINES = {
    "tst_min": "asleep",
    "se_percent": "efficiency",
    "sol_min": "to fall asleep",
    "waso_min": "awake after",
}
STYLE = """
:root{color-scheme:light}*{box-sizing:border-box}
body{font:16px/1.45 system-ui,sans-serif;color:#1b1f24;margin:0 auto;padding:1rem;max-width:70rem}
h1{font-size:1.4rem;margin:.2rem 0}h2{font-size:1.1rem;margin:1.6rem 0 .4rem}
img{width:100%;height:auto}table{border-collapse:collapse;width:100%}
td,th{padding:.25rem .6rem .25rem 0;text-align:left;vertical-align:top;border-bottom:1px solid #eceff2}
td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td.t{white-space:nowrap}
.wide{overflow-x:auto}.dim,td.d{color:#5b6570}.banner{padding:.7rem 1rem;border-radius:.4rem;margin:.8rem 0}
.whole{background:#e7f4ec}.partial{background:#fff3d6}.failed{background:#b3261e;color:#fff;font-weight:600}
.banner ul{margin:.3rem 0 0;padding-left:1.2rem;font-weight:400}
.big{display:flex;flex-wrap:wrap;gap:.4rem 2.2rem;margin:.8rem 0}
.big b{font-size:1.9rem;display:block;line-height:1.1}
.noresult{opacity:.5}.noresult td.n{text-decoration:line-through}
"""


def make_night_page(
    night: Night, pngs: tuple[bytes, bytes], found: Comparison | None, against: Path | None
) -> str:
    """Make the page of one night.

    Args:
        night: the night, as read from its session.
        pngs: the picture, and another one for a phone.
        found: agreement with a scorer, if asked for.
        against: the scorer's file.

    """
    judged = verdict(night)
    parts = [
        f"<h1>{escape(night.sleeper)}, {_date(night)}</h1>",
        f'<p class="dim">{escape(night.meta.info.name)}, channel {escape(_channels(night))}, '
        f"{night.meta.info.rate_hz:g} Hz; {_hours(night.duration_s / 60)} recorded</p>",
        _banner(judged),
        "" if judged.grade == "failed" else _headlines(night),
        _picture(*pngs, "hypnogram, hypnodensity, spectrogram and quality"),
        _agreement(found, against) if found is not None and against is not None else "",
        "<h2>Signal</h2>",
        _signal(night),
        "<h2>Statistics</h2>",
        _lights(night),
        _statistics(night, judged),
        f'<p class="dim">Session {escape(night.meta.session)}; model {escape(night.meta.model_sha256[:12])}; '
        f"sleepstream {__version__}. Definitions follow the AASM manual where it has one. "
        "Not a medical device; it diagnoses nothing.</p>",
    ]
    return _page(f"{night.sleeper} {_date(night)}", parts)


def make_trend_page(
    nights: Sequence[Night], pngs: tuple[bytes, bytes], links: Sequence[str], made_from: str
) -> str:
    """Make the page of several nights, in order of time.

    Args:
        nights: the nights, as read from their sessions.
        pngs: the picture, and another one for a phone.
        links: file names of their reports, in the same folder.
        made_from: a digest of the page's inputs, stored in the page.

    """
    shown = (
        "tib_min",
        "tst_min",
        "se_percent",
        "sol_min",
        "waso_min",
        "rem_latency_min",
        "n3_percent",
        "r_percent",
    )
    head = "".join(f'<th class="n">{NAMES[name]}</th>' for name in (*shown, "unscored_min"))
    rows = []
    for night, link in zip(nights, links, strict=True):
        values, judged = night.statistics().to_json(), verdict(night)
        no_result = judged.grade == "failed"
        cells = "".join(_cell("failed" if no_result else _value(values[name], name)) for name in shown)
        cells += _cell(_value(values["unscored_min"], "unscored_min"))
        named = f'<td class="t"><a href="{escape(quote(link))}">{_date(night)}</a></td>'
        sleeper = f"<td>{escape(night.sleeper)}</td>"
        rows.append(f"<tr>{named}{sleeper}{cells}<td>{judged.grade}</td></tr>")
    failed = sum(verdict(night).grade == "failed" for night in nights)
    sleepers = {night.sleeper for night in nights}
    whose = f"{min(sleepers)}: " if len(sleepers) == 1 else ""
    said = f"{whose}{len(nights)} nights" + (f", {failed} failed and left out" if failed else "")
    table = (
        f'<div class="wide"><table><tr><th>night</th><th>sleeper</th>{head}<th>verdict</th></tr>'
        f"{''.join(rows)}</table></div>"
    )
    dated = '<p class="dim">A night has the date of its evening, even if it began after midnight.</p>'
    span = f'<p class="dim">{_date(nights[0])} to {_date(nights[-1])}</p>'
    picture = _picture(*pngs, "trend")
    parts = [f"<h1>{escape(said)}</h1>", span, picture, table, dated, _legend((*shown, "unscored_min"))]
    return _page(f"{whose}trend", parts, made_from)


def _page(title: str, parts: Sequence[str], made_from: str = "") -> str:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="made-from" content="{made_from}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _channels(night: Night) -> str:
    """The staged channels, in the order in which they were used."""
    later = [str(event.data.get("to")) for event in night.events if event.event == "channel_changed"]
    return ", then ".join([night.channel, *later])


def _banner(judged: Verdict) -> str:
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in judged.reasons)
    listed = f"<ul>{reasons}</ul>" if reasons else ""
    return f'<div class="banner {judged.grade}">{judged.headline}{listed}</div>'


def _headlines(night: Night) -> str:
    values = night.statistics().to_json()
    cells = []
    for name, title in HEADLINES.items():
        value = values[name]
        shown = _hours(value) if value is not None and name == "tst_min" else _value(value, name)
        cells.append(f"<div><b>{shown}</b>{title}</div>")
    return f'<div class="big">{"".join(cells)}</div>'


def _picture(png: bytes, narrow: bytes, text: str) -> str:
    """A picture for a wide screen, and another for a narrow one."""
    other = f'<source media="(max-width:44rem)" srcset="{_data(narrow)}">'
    return f'<picture>{other}<img alt="{text}" src="{_data(png)}"></picture>'


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _signal(night: Night) -> str:
    """A table of lost samples, and of the quality with its reasons."""
    count = len(night.epochs)
    grades = Counter(epoch.quality.grade for epoch in night.epochs)
    why = Counter(reason for epoch in night.epochs for reason in epoch.quality.reasons)
    longest = max((gap.stop - gap.start for gap in night.gaps), default=0) / night.meta.info.rate_hz
    lost = sum(gap.stop - gap.start for gap in night.gaps)
    share = lost / night.n_samples if night.n_samples else 0.0
    losses = f"{lost} of {night.n_samples} samples ({_percent(share)}, {night.lost_s:.1f} s)"
    rows = [
        (
            "lost",
            losses + (f" in {_count(len(night.gaps), 'gap')}, the longest {longest:.1f} s" if lost else ""),
        )
    ]
    rows += [
        (f"quality {grade}", f"{_percent(grades[grade] / count)} of the epochs")
        for grade in ("good", "fair", "poor", "off")
        if grades[grade]
    ]
    rows += [
        (f"because: {reason}", f"{_percent(n / count)} of the epochs") for reason, n in why.most_common()
    ]
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in rows)
    return f"<table>{cells}</table>"


def _lights(night: Night) -> str:
    off, on = night.marked("lights_off"), night.marked("lights_on")
    if off and on:
        return ""
    missing = "Lights off and on were" if not off and not on else f"Lights {'on' if off else 'off'} was"
    return (
        f'<p class="dim">{missing} not marked. The start or end of the recording is used instead, so '
        "time in bed, efficiency and latencies depend on when recording was started and stopped.</p>"
    )


def _statistics(night: Night, judged: Verdict) -> str:
    values = night.statistics().to_json()
    rows = "".join(
        f"<tr><td>{NAMES[name]}</td>{_cell(_value(values[name], name))}"
        f'<td class="d">{escape(meaning)}</td></tr>'
        for name, (_, meaning) in DEFINITIONS.items()
    )
    return f'<table class="{"noresult" if judged.grade == "failed" else ""}">{rows}</table>'


def _legend(names: Sequence[str]) -> str:
    rows = "".join(
        f'<tr><td>{NAMES[name]}</td><td class="d">{escape(DEFINITIONS[name][1])}</td></tr>' for name in names
    )
    return f"<h2>Definitions</h2><table>{rows}</table>"


def _agreement(compared: Comparison, against: Path) -> str:
    found = compared.found
    accuracy, kappa, f1 = (
        "undefined" if value is None else f"{value:.3f}"
        for value in (found.accuracy, found.kappa, found.macro_f1)
    )
    head = "".join(f'<th class="n">{stage}</th>' for stage in STAGES)
    rows = "".join(
        f"<tr><td>{stage}</td>{''.join(map(_cell, row))}</tr>"
        for stage, row in zip(STAGES, found.confusion, strict=True)
    )
    return (
        f"<h2>Agreement with {escape(against.name)}</h2>{_doubts(compared)}"
        f"<p>{found.n} epochs scored by both: accuracy {accuracy}, Cohen's kappa {kappa}, macro-F1 {f1}. "
        f"{found.unscored} epochs scored by the scorer are unscored here.</p>"
        f"<table><tr><th>scorer \\ engine</th>{head}</tr>{rows}</table>"
    )


def _doubts(compared: Comparison) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in compared.said())
    return (
        f'<div class="banner partial">Read this agreement with care.<ul>{lines}</ul></div>' if lines else ""
    )


def _cell(value: object) -> str:
    return f'<td class="n">{escape(str(value))}</td>'


def _value(value: float | None, name: str) -> str:
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.1f} {DEFINITIONS[name][0]}".replace(".0 ", " ").strip()


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share == 0 or share >= 0.0005 else "< 0.1%"


def _hours(minutes: float) -> str:
    if minutes < 60:
        return f"{minutes:.1f} min".replace(".0 ", " ")
    whole = math.floor(minutes + 0.5)
    return f"{whole // 60} h {whole % 60:02d} min"


def _date(night: Night) -> str:
    evening = evening_of(night.meta)
    return "unknown date" if evening is None else evening.isoformat()
