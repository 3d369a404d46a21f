"""sleepstream: stages sleep in real time from one channel of EEG and publishes it over MQTT."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

from streamer.host.local import silence

silence()  # before anything that is imported after this


def _installed() -> str:
    """The installed version, or "0+unknown" in a checkout that is not installed."""
    try:
        return version("sleepstream")
    except PackageNotFoundError:
        return "0+unknown"


__version__: Final = _installed()
