"""sleepstream: stages sleep in real time from one channel of EEG and publishes it over MQTT."""

__version__ = "0.1.0"
