"""A part of `tools.bench`: how many sleepers one broker carries, and what each of them costs."""

from tools.bench.fleet.knee import measure

__all__ = ["measure"]
