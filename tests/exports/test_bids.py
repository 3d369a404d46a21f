"""BIDS datasets of one night and of many, by the official validator and by MNE."""

import json
import subprocess

import mne
import numpy as np
import pandas as pd

from streamer.cli import main
from streamer.messages import Channel
from tests.night import STARTED, session, stages

LETTERS = "WW1122?3RRW"
EVENTS = [("lights_off", {"epoch": 1}), ("mark", {"epoch": 3}), ("lights_on", {"epoch": 9})]
LONG = [Channel(f"OpenBCI_Cyton_8ch {n}", "uV") for n in range(3)]
# Only a person can say these: who the authors are, how large the head is; and no HED tags are used.
FOR_A_PERSON = {"NO_AUTHORS", "TOO_FEW_AUTHORS", "HEDVersion", "HeadCircumference"}


def bids(*sessions, out):
    return main(["export", *map(str, sessions), "--to", "bids", "--out", str(out)])


def issues(dataset):
    run = subprocess.run(
        ["bids-validator-deno", "--json", "-r", str(dataset)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    found = json.loads(run.stdout)
    every = [found, *found["derivativesSummary"].values()]
    return [issue for one in every for issue in one["issues"]["issues"]]


def one(path, pattern):
    (found,) = path.rglob(pattern)
    return found


def test_many_nights_are_one_dataset_without_an_error_or_an_avoidable_warning(tmp_path):
    samples = np.random.default_rng(0).normal(0, 40, (3, 100 * 30 * len(LETTERS)))
    plain = {"channels": LONG, "samples": samples, "events": EVENTS, "channel": "#0"}
    first = session(tmp_path / "a.sqlite", stages(LETTERS), identity="a", **plain)
    second = session(tmp_path / "b.sqlite", stages(LETTERS), identity="b", started=STARTED + 86_400, **plain)
    third = session(tmp_path / "c.sqlite", stages("W2"), identity="c", stream="b.e-n", gaps=[(3000, 3500)])
    out = tmp_path / "dataset"
    assert bids(first, second, third, out=out) == 0
    assert {issue.get("subCode") or issue["code"] for issue in issues(out)} <= FOR_A_PERSON | {"Authors"}
    assert not [issue for issue in issues(out) if issue["severity"] == "error"]
    nights = sorted(path.name for path in out.glob("sub-*/ses-*"))
    assert nights == ["ses-20250615T150640", "ses-20250615T150640", "ses-20250616T150640"]
    people = pd.read_csv(out / "participants.tsv", sep="\t")
    assert list(people["participant_id"]) == ["sub-anna", "sub-ben"]
    assert list(people["sleeper"]) == ["anna", "b.e-n"]

    anna = out / "sub-anna" / "ses-20250615T150640"
    raw = mne.io.read_raw_edf(one(anna, "*_eeg.edf"), preload=True, verbose="error")
    assert np.abs(raw.get_data() * 1e6 - samples).max() <= 0.051
    channels = pd.read_csv(one(anna, "*_channels.tsv"), sep="\t")
    assert list(channels["name"]) == raw.ch_names
    assert len(set(raw.ch_names)) == 3
    assert "named OpenBCI_Cyton_8ch 2 by its device" in channels["description"][2]
    assert "staged as OpenBCI_Cyton_8ch 0" in channels["description"][0]
    assert sorted(set(raw.annotations.description)) == ["Lights off", "Lights on", "mark: here"]
    events = pd.read_csv(one(anna, "*_events.tsv"), sep="\t")
    assert list(events["trial_type"]) == ["lights_off", "mark", "lights_on"]
    scored = pd.read_csv(
        one(out / "derivatives/sleepstream/sub-anna/ses-20250615T150640", "*_events.tsv"), sep="\t"
    )
    assert list(scored["trial_type"]) == stages(LETTERS)
    assert list(scored["onset"]) == [30 * k for k in range(len(LETTERS))]


def test_nights_are_added_and_what_is_there_stays(tmp_path, capsys):
    first = session(tmp_path / "a.sqlite", stages("W2"), identity="a")
    out = tmp_path / "dataset"
    assert bids(first, out=out) == 0
    (out / "README").write_text("mine")
    before = one(out, "*_eeg.edf").read_bytes()
    again = session(tmp_path / "b.sqlite", stages("2W"), identity="b")  # the same recording, staged otherwise
    assert bids(first, again, out=out) == 0
    assert "a.sqlite: already in" in capsys.readouterr().out
    assert sorted(path.name for path in out.glob("sub-anna/*")) == [
        "ses-20250615T150640",
        "ses-20250615T150640v2",
    ]
    assert one(out / "sub-anna" / "ses-20250615T150640", "*_eeg.edf").read_bytes() == before
    assert (out / "README").read_text() == "mine"
    assert len(pd.read_csv(out / "participants.tsv", sep="\t")) == 1
    assert not list(out.glob(".*"))


def test_two_sleepers_never_share_a_label(tmp_path):
    sessions = [
        session(tmp_path / f"{k}.sqlite", stages("W"), identity=str(k), stream=name)
        for k, name in enumerate(["a-b", "ab", "a.b", "..."])
    ]
    assert bids(*sessions, out=tmp_path / "d") == 0
    assert sorted(path.name for path in (tmp_path / "d").glob("sub-*")) == [
        "sub-01",
        "sub-ab",
        "sub-abx2",
        "sub-abx3",
    ]


def test_replays_are_told_apart_by_their_recordings(tmp_path):
    one_, other = (
        session(tmp_path / f"{name}.sqlite", stages("W"), identity=name, stream="replay", name=name)
        for name in ("SC4001E0", "SC4012E0")
    )
    assert bids(one_, other, out=tmp_path / "d") == 0
    assert sorted(path.name for path in (tmp_path / "d").glob("sub-*")) == ["sub-SC4001E0", "sub-SC4012E0"]


def test_a_foreign_folder_is_left_alone(tmp_path, capsys):
    path = session(tmp_path / "a.sqlite", stages("W"))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "dataset_description.json").write_text('{"Name": "theirs"}')
    assert bids(path, out=tmp_path / "d") == 2
    assert "not a dataset made by sleepstream" in capsys.readouterr().err
    assert len(list((tmp_path / "d").iterdir())) == 1


def test_a_night_that_cannot_be_written_leaves_nothing(tmp_path):
    path = session(tmp_path / "a.sqlite", stages("W"), samples=np.zeros((1, 0)))
    assert bids(path, out=tmp_path / "d") == 2
    assert not (tmp_path / "d").exists()
