"""An hour of the night at speed: nothing grows. Ten hours: `python -m tests.chaos soak`."""

import asyncio
import threading
from dataclasses import replace

import pytest

from tests.chaos.soak import WORKERS, Look, judge, look, soak

FILES = ("/dev/null", "meta.json", "night.sqlite", "socket", "socket")
THREADS = ("asyncio_0", "asyncio_1", "journals in night", "model_0")
TASKS = ("Engine._keep", "Intake._run", "soak")


def looks(change=lambda hour, look: look):
    """A night of ten hours in which nothing grows but what `change` makes grow."""
    flat = [Look(hour, 380.0 + hour % 2, 11.7, FILES, THREADS, TASKS, 7.0) for hour in range(1, 11)]
    return [change(look.hour, look) for look in flat]


def threads(*more):
    return lambda hour, look: replace(look, threads=(*look.threads, *(name(hour) for name in more)))


def test_growth_is_seen():
    assert judge(looks()) == []

    def leak(hour, look):
        more = tuple(f"report-{number}.svg" for number in range(hour))
        return replace(
            look,
            rss_mb=380.0 + 4 * hour,
            heap_mb=10.0 + hour,
            files=(*FILES, *more),
            tasks=TASKS + ("ringing",) * hour,
            latency_p99_ms=7.0 + 9 * hour,
        )

    assert judge(looks(leak)) == [
        "rss_mb grew by 6.1%",
        "heap_mb grew by 46.2%",
        "files grew from 9 to 13; new: " + ", ".join(f"report-{number}.svg" for number in range(4, 8)),
        "tasks grew from 7 to 11; new: " + ", ".join(["ringing"] * 4),
        "latency p99 grew from 34 to 88 ms",
    ]


@pytest.mark.parametrize("since", [2, 6, 8])
def test_a_thread_that_stays_is_seen_by_its_name(since):
    def leak(hour, look):
        return replace(look, threads=look.threads + ("bell",) * (hour >= since))

    assert judge(looks(leak)) == ([] if since == 2 else ["threads grew from 2 to 3; new: bell"])


@pytest.mark.parametrize("hour", range(1, 11))
def test_what_is_there_for_a_moment_or_grows_once_is_no_leak(hour):
    def shown(at, look):
        files, threads = ("report.svg",) * (at == hour), ("last words",) * (at == hour)
        return replace(look, files=look.files + files, threads=look.threads + threads)

    def step(at, look):
        return replace(look, rss_mb=look.rss_mb + 20 * (at >= hour))

    assert judge(looks(shown)) == judge(looks(step)) == []


def test_a_pool_may_fill_but_not_beyond_its_bound_and_not_twice():
    def pool(workers):
        return tuple(f"asyncio_{number}" for number in range(workers))

    assert judge(looks(lambda hour, look: replace(look, threads=pool(min(hour, WORKERS))))) == []
    (found,) = judge(looks(lambda hour, look: replace(look, threads=pool(WORKERS + hour // 10))))
    assert f"asyncio_{WORKERS}" in found
    assert judge(looks(lambda hour, look: replace(look, threads=(*look.threads, "asyncio_0")))) == [
        f"threads of asyncio's pool: asyncio_0, asyncio_0, asyncio_1; there may be {WORKERS} of one pool"
    ]


@pytest.mark.slow
def test_a_real_thread_that_leaks_is_found_while_the_pool_fills():
    over = threading.Event()

    async def hours():
        others = set(threading.enumerate())
        for hour in range(1, 11):
            threading.Thread(target=over.wait, name=f"bell {hour}", daemon=True).start()
            await asyncio.gather(*(asyncio.to_thread(int) for _ in range(hour)))
            yield look(hour, others)

    async def night():
        return [one async for one in hours()]

    try:
        found = judge(asyncio.run(night()))
    finally:
        over.set()
    assert "threads grew from 4 to 8; new: bell 5, bell 6, bell 7, bell 8" in found


@pytest.mark.slow
def test_an_hour_leaves_nothing_behind(tmp_path):
    # So many looks that what comes and goes is not, by chance, in all of the last and in none of the first.
    looks = asyncio.run(soak(tmp_path, hours=1, speed=400, hop_s=10, looks=50))
    assert len(looks) >= 20  # unless the machine was too busy to look
    # A young process still reserves memory: what Python holds of it tells more. Latency is the machine's.
    assert [found for found in judge(looks) if not found.startswith(("rss_mb", "latency"))] == []
