"""Commands that run from the checkout: training data, evaluation, benchmarks."""

from model.extras import name_missing
from streamer.host.local import silence

silence()  # before any library is imported that would report usage
name_missing()
