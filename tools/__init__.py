"""Commands that run from the checkout: training data, evaluation, benchmarks."""

from streamer.local import silence

silence()  # before any library is imported that would report to its maker
