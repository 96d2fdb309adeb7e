"""The engine's end of a slot's line: which call is answered when."""

from __future__ import annotations

import asyncio

from raycolab.engine.mailbox import Batch
from raycolab.engine.slot_line import SlotLine
from raycolab.engine.slot_words import Call, End, Give, Ready, Reply, SlotWord
from tests.in_loop import in_loop

GIVE = Give(())


def call(number: int, *words: SlotWord, first: int = 1, received: int = 0, after_failure: bool = False) -> Call:
    """A call of the slot."""
    return Call("head.1", number, Batch(first, words, received), None, after_failure)


@in_loop
async def test_a_call_waits_until_there_is_something_to_say() -> None:
    """And is answered with it at once."""
    line = SlotLine("head.1")
    waiting = asyncio.create_task(line.reply(call(1)))
    await asyncio.sleep(0)
    assert not waiting.done()
    line.say(GIVE)
    assert (await waiting).batch == Batch(1, (GIVE,), 0)


@in_loop
async def test_a_newer_call_has_the_older_one_answered() -> None:
    """With what there is to say, so that the newer one can wait; a call that was overtaken does not wait."""
    line = SlotLine("head.1")
    older = asyncio.create_task(line.reply(call(1)))
    await asyncio.sleep(0)
    assert line.hear(call(2, Ready({}))) == [Ready({})]
    line.say(GIVE)
    asyncio.get_running_loop().call_later(0.01, line.say, End())
    assert (await line.reply(call(2))).batch == Batch(2, (End(),), 1)
    assert (await older).batch == Batch(1, (GIVE,), 1)
    assert (await line.reply(call(1))).batch.messages == ()


@in_loop
async def test_an_older_call_does_not_wait_beside_a_newer_one() -> None:
    """It is answered at once, with nothing if there is nothing: two calls of a slot are under way at most."""
    line = SlotLine("head.1")
    older = asyncio.create_task(line.reply(call(1)))
    await asyncio.sleep(0)
    newer = asyncio.create_task(line.reply(call(2)))
    assert (await older).batch.messages == ()
    assert not newer.done()
    newer.cancel()


@in_loop
async def test_of_two_calls_that_come_at_once_one_is_answered() -> None:
    """Or a trial's end could not be reported until they had both been held for their whole time."""
    line = SlotLine("head.1")
    older = asyncio.create_task(line.reply(call(1)))
    newer = asyncio.create_task(line.reply(call(2)))
    async with asyncio.timeout(1):
        assert (await older).batch.messages == ()
    assert not newer.done()
    newer.cancel()


@in_loop
async def test_once_it_is_told_to_end_no_call_waits() -> None:
    """A slot that loads MAIN meanwhile says Ready afterwards, and ends once it knows that this has come."""
    line = SlotLine("head.1")
    line.say(End())
    assert (await line.reply(call(1))).batch == Batch(1, (End(),), 0)
    late = call(2, Ready({}), received=1)
    line.hear(late)
    async with asyncio.timeout(1):
        assert (await line.reply(late)).batch == Batch(2, (), 1)


@in_loop
async def test_after_a_failed_call_what_was_said_is_said_again() -> None:
    """Unless the slot has it."""
    line = SlotLine("head.1")
    line.say(GIVE)
    line.say(End())
    await line.reply(call(1))
    again = call(2, received=1, after_failure=True)
    line.hear(again)
    reply: Reply = await line.reply(again)
    assert reply.batch == Batch(2, (End(),), 0)
