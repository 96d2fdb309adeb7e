"""The head's line to its engine: what is asked while the engine restarts is answered by the next one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raycolab.errors import ClusterError, UnknownSweepError
from raycolab.node.rpc import EngineLine, error_answer
from tests.in_loop import in_loop
from tests.raycolab.node.test_control import Engine


async def asked(line: EngineLine) -> asyncio.Task[dict[str, Any]]:
    """Begin to ask, as far as that goes."""
    task = asyncio.create_task(line.ask({"op": "start"}))
    for _ in range(5):
        await asyncio.sleep(0)
    return task


async def end(engine: Engine) -> None:
    """The engine's process ends."""
    engine.reader.feed_eof()
    await engine.running


@in_loop
async def test_a_question_waits_for_an_engine() -> None:
    """At the start, and after the last one has ended."""
    line = EngineLine(lambda progress: None)
    task = await asked(line)
    first = Engine()
    line.connected(first.channel)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.say({"id": 1, "ok": True, "state": "RUNNING"})
    assert await task == {"state": "RUNNING"}
    await end(first)
    assert not line.up.is_set()


@in_loop
async def test_what_an_engine_took_with_it_the_next_one_is_asked_again() -> None:
    """Whoever asked does not see the restart."""
    line = EngineLine(lambda progress: None)
    first, second = Engine(), Engine()
    line.connected(first.channel)
    task = await asked(line)
    await end(first)
    line.connected(second.channel)
    for _ in range(5):
        await asyncio.sleep(0)
    assert second.writer.lines == [{"op": "start", "id": 1}]
    second.say({"id": 1, "ok": True})
    assert await task == {}


@in_loop
async def test_what_ends_one_engine_after_the_other_is_not_asked_for_ever() -> None:
    """A third engine is left alone, and who asked is told."""
    line = EngineLine(lambda progress: None)
    first, second, third = Engine(), Engine(), Engine()
    line.connected(first.channel)
    task = await asked(line)
    for engine, following in ((first, second), (second, third)):
        await end(engine)
        line.connected(following.channel)
        for _ in range(5):
            await asyncio.sleep(0)
    with pytest.raises(ClusterError):
        await task
    assert third.writer.lines == []


@in_loop
async def test_a_no_is_not_asked_again() -> None:
    """The engine's own errors go to who asked."""
    line = EngineLine(lambda progress: None)
    engine = Engine()
    line.connected(engine.channel)
    task = await asked(line)
    engine.say({"id": 1, **error_answer(UnknownSweepError("No sweep x."))})
    with pytest.raises(UnknownSweepError, match="No sweep x"):
        await task


@in_loop
async def test_an_engine_that_stays_away_is_said() -> None:
    """After a while, and what needs no answer is dropped."""
    line = EngineLine(lambda progress: None)
    line.tell({"op": "node_lost"})
    with pytest.raises(ClusterError, match=r"^The sweep engine is restarting: try again in a few seconds"):
        await line.ask({"op": "start"}, restart_s=0.01)


@in_loop
async def test_the_old_engine_s_end_does_not_hide_the_new_one() -> None:
    """Its connection may end after the next has come; progress is the new one's."""
    seen: list[dict[str, Any]] = []
    line = EngineLine(seen.append)
    first, second = Engine(), Engine()
    line.connected(first.channel)
    line.connected(second.channel)
    await end(first)
    assert line.up.is_set()
    second.say({"progress": {"sweeps": []}})
    await end(second)
    assert seen == [{"sweeps": []}]
