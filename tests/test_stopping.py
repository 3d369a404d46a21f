"""What is waited for ends, is cancelled or fails, and nothing is left behind."""

import asyncio

import pytest

from streamer.clock import unless_stopped


async def _forever(ended):
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(True)


def test_the_result_of_the_work_is_given():
    async def scenario():
        done = await unless_stopped(asyncio.Event(), asyncio.sleep(0, "result"))
        return done.result(), asyncio.all_tasks() - {asyncio.current_task()}

    result, left = asyncio.run(scenario())
    assert result == "result"
    assert all(task.cancelling() for task in left)


def test_the_error_of_the_work_is_given():
    async def fail():
        raise OSError("gone")

    async def scenario():
        return await unless_stopped(asyncio.Event(), fail())

    with pytest.raises(OSError, match="gone"):
        asyncio.run(scenario()).result()


def test_a_stop_cancels_the_work_and_waits_for_its_end():
    async def scenario():
        stop, ended = asyncio.Event(), []
        asyncio.get_running_loop().call_soon(stop.set)
        done = await unless_stopped(stop, _forever(ended))
        return done.cancelled(), ended

    assert asyncio.run(scenario()) == (True, [True])


def test_being_cancelled_ends_the_work_too():
    async def scenario():
        ended = []
        waiting = asyncio.create_task(unless_stopped(asyncio.Event(), _forever(ended)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return ended

    assert asyncio.run(scenario()) == [True]
