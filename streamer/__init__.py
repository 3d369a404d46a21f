"""sleepstream: stages sleep in real time from one channel of EEG and publishes it over MQTT."""

from streamer.local import silence

__version__ = "0.1.0"

silence()  # before anything that is imported after this
