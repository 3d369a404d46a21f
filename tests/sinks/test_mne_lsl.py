"""What we send over LSL, read and recorded by a client that is not ours: mne-lsl, with its own liblsl."""

import threading
import time

import numpy as np
import pylsl
import pytest
import pyxdf

from streamer.payloads import EventPayload, utc
from streamer.sinks.lsl import LslOutlets
from streamer.sinks.settings import LslSinkSettings
from tests.sinks.test_lsl_out import staged

RECORDER_S = 1.5, 5.0, 20.0  # it looks twice a second, and tells nobody when it has: so long, or longer
PREFIX = "mne"


def trigger(number, arm, due):
    data = {"trigger": "tmr", "code": 100 + (arm == "sham"), "number": number, "arm": arm, "due": due}
    return EventPayload(session="s1", seq=number, t=utc(0), event="trigger", text="N3", data=data)


def until(done, seconds=60.0):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def start(stream, path):
    """Begin to record; a recorder that finds no stream on a busy machine is started again."""
    for _ in range(30):
        try:
            return stream.start_record(path, overwrite=True, timeout=60)
        except RuntimeError as error:
            missed = error
    raise missed


def recorded(path, wait_s):
    """Three codes as such a client reads them, and as it records them if it is left alone for long enough."""
    from mne_lsl.stream import StreamLSL

    with LslOutlets(LslSinkSettings(prefix=PREFIX), "lab", "s01", 1, {"tmr": 100}) as outlets:
        name, source_id = f"{PREFIX}-s01-codes", "sleepstream-lab-s01-codes"
        stream = StreamLSL(bufsize=50, name=name, stype="MarkerCodes", source_id=source_id)
        stream.connect(acquisition_delay=0.01, timeout=60)
        try:
            start(stream, path)
            before = pylsl.local_clock()
            due = time.time() + 0.25
            outlets.hear("s01", staged(0, "N3", 30))
            outlets.hear("s01", trigger(0, "active", due))
            outlets.hear("s01", trigger(1, "sham", due))
            passed_s = pylsl.local_clock() - before
            until(lambda: stream.n_new_samples >= 3)
            values, times = stream.get_data()
            threading.Event().wait(wait_s)
            stream.stop_record()
            assert stream.ch_names == ["code", "number", "condition", "due"]
        finally:
            stream.disconnect()
    np.testing.assert_allclose(values[3, -2:], before + 0.25, atol=passed_s + 1e-3)
    return values, times, pyxdf.load_xdf(path)[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what it says while it looks at a stream without a rate
def test_a_foreign_client_reads_and_records_codes(tmp_path):
    for wait_s in RECORDER_S:
        values, times, found = recorded(tmp_path / f"codes-{wait_s}.xdf", wait_s)
        if sum(len(one["time_series"]) for one in found) == 3:
            break
    assert values[:3, -3:].astype(int).T.tolist() == [[4, -1, 0], [100, 0, 1], [101, 1, 2]]
    assert np.isnan(values[3, -3])
    assert (np.diff(times[-2:]) >= 0).all()
    (one,) = found
    assert one["time_series"][:, 0].tolist() == [4, 100, 101]
    meanings = one["info"]["desc"][0]["codes"][0]["code"]
    assert {one["meaning"][0]: one["value"][0] for one in meanings}["trigger tmr (sham)"] == "101"
