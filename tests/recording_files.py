"""Small recordings of every format, written for the tests."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import edfio
import numpy as np

from streamer.sources.edf_header import read_header

WIDE = (-32768, 32767)


def signal(
    samples: np.ndarray, rate_hz: float, label: str = "EEG C3-A1", unit: str = "uV"
) -> edfio.EdfSignal:
    """One EDF signal of +-500 in its unit."""
    return edfio.EdfSignal(
        samples,
        rate_hz,
        label=label,
        physical_dimension=unit,
        physical_range=(-500.0, 500.0),
        digital_range=WIDE,
    )


def eeg(seconds: float, rate_hz: float = 100.0, seed: int = 0) -> np.ndarray:
    """Noise of 20 µV."""
    return np.random.default_rng(seed).normal(0, 20, round(seconds * rate_hz)).clip(-400, 400)


def write_edf(path: Path, signals: Sequence[edfio.EdfSignal], **more: object) -> Path:
    edfio.Edf(signals, **more).write(path)
    return path


def write_bdf(path: Path, samples: np.ndarray, rate_hz: float) -> Path:
    edfio.Bdf([edfio.BdfSignal(samples, rate_hz, label="Cz", physical_dimension="uV")]).write(path)
    return path


def write_edf_d(path: Path, signals: Sequence[edfio.EdfSignal], onsets: Sequence[float]) -> Path:
    """An EDF+D of 1 s records that start at `onsets`."""
    room = edfio.EdfAnnotation(0, None, "room for longer onsets in every record")
    notes = [room._replace(onset=float(n)) for n in range(len(onsets))]
    write_edf(path, signals, annotations=notes, data_record_duration=1)
    header = read_header(path)
    place = next(one for one in header.signals if one.annotations)
    data = bytearray(path.read_bytes())
    data[192:197] = b"EDF+D"
    size = place.samples * header.width
    for record, onset in enumerate(onsets):
        at = header.size + record * header.record_bytes + place.offset
        data[at : at + size] = f"+{onset:g}\x14\x14\0".encode().ljust(size, b"\0")
    path.write_bytes(data)
    return path


def patched(path: Path, at: int, field: bytes) -> Path:
    """The same file with some bytes of its header replaced."""
    data = bytearray(path.read_bytes())
    data[at : at + len(field)] = field
    path.write_bytes(data)
    return path


def write_xdf(
    path: Path,
    times: np.ndarray,
    samples: np.ndarray,
    rate_hz: float,
    labels: Sequence[str],
    unit: str = "microvolts",
    offset_s: float = 0.0,
) -> Path:
    """One EEG stream of doubles, (channels, n), and a stream of markers, as LabRecorder writes them."""
    entries = "".join(f"<channel><label>{one}</label><unit>{unit}</unit></channel>" for one in labels)
    out = [b"XDF:", _chunk(1, b"<?xml version='1.0'?><info><version>1.0</version></info>")]
    out.append(_header(1, "Muse", "EEG", len(labels), rate_hz, "double64", f"<channels>{entries}</channels>"))
    out.append(_header(2, "Marks", "Markers", 1, 0, "string", ""))
    for begun in range(0, len(times), 100):
        part = slice(begun, begun + 100)
        rows = b"".join(
            b"\x08" + struct.pack(f"<{1 + len(labels)}d", time, *row)
            for time, row in zip(times[part], samples.T[part], strict=True)
        )
        count = len(times[part])
        out.append(_chunk(3, struct.pack("<IBI", 1, 4, count) + rows))
    for at in (times[0], times[-1]):
        out.append(_chunk(4, struct.pack("<Idd", 1, at, offset_s)))
    path.write_bytes(b"".join(out))
    return path


def _header(stream: int, name: str, kind: str, channels: int, rate_hz: float, form: str, desc: str) -> bytes:
    xml = (
        f"<?xml version='1.0'?><info><name>{name}</name><type>{kind}</type>"
        f"<channel_count>{channels}</channel_count><nominal_srate>{rate_hz:g}</nominal_srate>"
        f"<channel_format>{form}</channel_format><desc>{desc}</desc></info>"
    )
    return _chunk(2, struct.pack("<I", stream) + xml.encode())


def _chunk(tag: int, content: bytes) -> bytes:
    return struct.pack("<BIH", 4, len(content) + 2, tag) + content
