"""One BrainFlow board: its name, its parameters, what its rows mean; every call here may block."""

from __future__ import annotations

import difflib
import importlib
import platform
import re
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.errors import SourceError
from streamer.messages import Channel, Floats
from streamer.sources.packets import Numbering
from streamer.sources.settings import BrainflowSettings

RING_S = 300  # what BrainFlow keeps for us, before it overwrites silently
PLAYBACK, STREAMING = -3, -2  # boards that stand for another one
_MUSE = Numbering(wrap=1 << 16, rows=12)
# Boards whose package number is known to count. For others losses are found by time: a Ganglion's number
# depends on its firmware, and a Muse S Athena's counts the packets of every sensor.
NUMBERINGS = {
    -1: Numbering(wrap=256),  # synthetic
    0: Numbering(wrap=256),  # Cyton
    2: Numbering(wrap=256, step=2),  # Cyton with Daisy: two packets make one sample
    **dict.fromkeys((21, 22, 38, 39, 41, 42), _MUSE),
}
_importing = threading.Lock()  # catch_warnings changes the whole process


@dataclass(frozen=True, slots=True)
class BoardInfo:
    """What a board says about itself."""

    name: str
    rate_hz: float
    channels: tuple[Channel, ...]
    numbering: Numbering | None  # None: how it numbers its packets is not known
    rows: int | None = None  # length of a recording that is played back; None for a live board


@dataclass(frozen=True, slots=True, eq=False)
class BoardRows:
    """The samples that a board has delivered since the last read."""

    numbers: NDArray[np.int64]  # (n,) package numbers
    stamps: Floats  # (n,) Unix s, by this host's wall clock, which may jump
    samples: Floats  # (channels, n) µV


class Board(Protocol):
    """A board; all calls come from one thread."""

    def describe(self) -> BoardInfo:
        """Describe the board; it need not be open."""
        ...

    def open(self) -> None:
        """Connect and begin to stream."""
        ...

    def read(self) -> BoardRows:
        """Return the rows that have arrived. Never waits."""
        ...

    def close(self) -> None:
        """Release the device, even after a failed `open`."""
        ...


def load_brainflow(load: Callable[[str], Any] = importlib.import_module) -> Any:
    """BrainFlow's `board_shim` module, with its library loaded.

    Raises:
        SourceError: it is not installed, has no library for this computer, or setuptools is too new for it.

    """
    with _importing, warnings.catch_warnings():
        # BrainFlow imports pkg_resources, which complains about that.
        warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
        warnings.filterwarnings("ignore", "Deprecated call to `pkg_resources", DeprecationWarning)
        try:
            shim = load("brainflow.board_shim")
            shim.BoardControllerDLL.get_instance()
        except ModuleNotFoundError as error:
            if error.name == "pkg_resources":
                raise SourceError(
                    "BrainFlow needs pkg_resources, which setuptools 82 removed; "
                    "run: pip install 'setuptools<82'"
                ) from error
            raise SourceError("BrainFlow is not installed; run: pip install brainflow") from error
        except OSError as error:  # on Linux its wheel brings a library for x86-64 only
            raise SourceError(
                f"BrainFlow has no library that loads on this computer ({platform.machine()}); "
                "build it from its sources, as its documentation says, or use a device that speaks LSL"
            ) from error
    return shim


def board_id(asked: int | str, names: Mapping[str, int]) -> int:
    """The id of a board by its id or name; "MUSE_2_BOARD", "muse 2", "Muse2" and 38 are the same.

    Raises:
        SourceError: no board is called that, or several are.

    """
    if isinstance(asked, int) or re.fullmatch(r"-?\d+", asked):
        if int(asked) in names.values():
            return int(asked)
        raise SourceError(f"BrainFlow knows no board {asked}; `sleepstream sources --boards` lists them")
    wanted = _plain(asked)
    plain = {_plain(name): name for name in names}
    found = [plain[wanted]] if wanted in plain else [plain[p] for p in plain if wanted in p]
    if len(found) == 1:
        return names[found[0]]
    near = found or [plain[p] for p in difflib.get_close_matches(wanted, plain, n=3, cutoff=0.4)]
    hint = f"; is it {' or '.join(near)}?" if near else "; `sleepstream sources --boards` lists them"
    raise SourceError(f"{'several boards are' if found else 'no BrainFlow board is'} called {asked!r}{hint}")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()).removesuffix("board")


class BrainflowBoard:
    """A board of BrainFlow's, real or synthetic."""

    def __init__(self, settings: BrainflowSettings) -> None:
        self._settings = settings
        self._shim: Any = None  # the module; untyped
        self._board: Any = None

    def describe(self) -> BoardInfo:
        """Describe the board; it need not be open.

        Raises:
            SourceError: BrainFlow cannot be used, or no such board with EEG is known.

        """
        shim = self._shim = load_brainflow()
        settings, api = self._settings, shim.BoardShim
        (api.enable_board_logger if settings.log else api.disable_board_logger)()
        names = {board.name: int(board) for board in shim.BoardIds}
        self._id = board_id(settings.board, names)
        stands_for = self._id
        if self._id in (PLAYBACK, STREAMING):
            if settings.master_board is None:
                raise SourceError(
                    f"board {settings.board!r} needs master_board: the board that {_made(self._id)}"
                )
            stands_for = board_id(settings.master_board, names)
        if self._id == PLAYBACK and settings.file is None:
            raise SourceError(f"board {settings.board!r} needs file: a CSV file that BrainFlow recorded")
        self._master = stands_for
        self._preset, described = _eeg_preset(shim, stands_for)
        self._rows = [int(row) for row in described["eeg_channels"]]
        self._number_row = int(described.get("package_num_channel", 0))
        self._stamp_row = int(described["timestamp_channel"])
        self._rate_hz = float(described["sampling_rate"])
        played = self._id == PLAYBACK and settings.file is not None and not settings.loop
        own = settings.counter
        return BoardInfo(
            name=f"{described['name']}{' played back' if played else ''} (BrainFlow {version('brainflow')})",
            rate_hz=self._rate_hz,
            channels=self._labels(str(described.get("eeg_names", ""))),
            numbering=Numbering(own.wrap, own.rows, own.step) if own else NUMBERINGS.get(stands_for),
            rows=_count_rows(settings.file) if played and settings.file else None,
        )

    def open(self) -> None:
        """Connect and begin to stream.

        Raises:
            SourceError: the board does not answer.

        """
        self._board = self._shim.BoardShim(self._id, self._parameters())
        try:
            self._board.prepare_session()
            if self._id == PLAYBACK:
                self._board.config_board("loopback_true" if self._settings.loop else "loopback_false")
            for command in self._settings.commands:
                self._board.config_board(command)
            self._board.start_stream(int(self._rate_hz * RING_S))
        except self._shim.BrainFlowError as error:
            raise SourceError(
                f"BrainFlow board {self._settings.board!r} does not open ({error}); is it on, near and not "
                "in use elsewhere? Check serial_port, mac_address or ip_address; log = true tells more"
            ) from error

    def read(self) -> BoardRows:
        """Return the rows that have arrived since the last call. Never waits.

        Raises:
            SourceError: the board is gone.

        """
        try:
            data = self._board.get_board_data(preset=self._preset)
        except self._shim.BrainFlowError as error:
            raise SourceError(f"BrainFlow board {self._settings.board!r} cannot be read: {error}") from error
        numbers = data[self._number_row].astype(np.int64)
        return BoardRows(numbers, data[self._stamp_row], np.ascontiguousarray(data[self._rows]))

    def close(self) -> None:
        """Release the device, even after a failed `open`."""
        board, self._board = self._board, None
        if board is not None:
            try:
                if board.is_prepared():
                    board.release_session()
            except self._shim.BrainFlowError as error:
                raise SourceError(
                    f"BrainFlow board {self._settings.board!r} cannot be closed: {error}"
                ) from error

    def _parameters(self) -> Any:
        made, settings = self._shim.BrainFlowInputParams(), self._settings
        made.serial_port = settings.serial_port
        made.mac_address = settings.mac_address
        made.serial_number = settings.serial_number
        made.ip_address = settings.ip_address
        made.ip_port = settings.ip_port
        made.ip_protocol = {"none": 0, "udp": 1, "tcp": 2}[settings.ip_protocol]
        made.other_info = settings.other_info
        made.timeout = settings.timeout_s
        made.file = str(settings.file or "")
        if self._master != self._id:
            made.master_board = self._master
        return made

    def _labels(self, names: str) -> tuple[Channel, ...]:
        """The electrodes as the settings, else BrainFlow, name them, else EEG1, EEG2 ..."""
        count = len(self._rows)
        labels = list(self._settings.labels) or [name for name in names.split(",") if name]
        if self._settings.labels and len(labels) != count:
            raise SourceError(f"labels names {len(labels)} channels, but the board has {count}")
        if len(labels) != count:
            labels = [f"EEG{number + 1}" for number in range(count)]
        return tuple(Channel(label, "uV") for label in labels)


def _made(identity: int) -> str:
    return "made the recording" if identity == PLAYBACK else "sends the stream"


def _eeg_preset(shim: Any, identity: int) -> tuple[int, dict[str, Any]]:
    """The preset of a board that carries EEG."""
    try:
        presets = sorted(shim.BoardShim.get_board_presets(identity))
    except shim.BrainFlowError as error:  # NO_BOARD is one of its boards
        raise SourceError(f"BrainFlow does not know what board {identity} is; choose another") from error
    for preset in presets:
        described: dict[str, Any] = shim.BoardShim.get_board_descr(identity, preset)
        if described.get("eeg_channels"):
            return int(preset), described
    raise SourceError(f"board {shim.BoardIds(identity).name} has no EEG; choose another")


def _count_rows(path: Path) -> int:
    """Count the lines of a recording: BrainFlow does not report its end, it only falls silent."""
    try:
        with path.open("rb") as file:
            return sum(1 for line in file if line.strip())
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}; give a CSV file of BrainFlow's") from error
