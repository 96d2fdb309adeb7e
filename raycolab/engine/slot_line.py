"""The engine's end of the line to one slot: what the slot said, in order, and what it is to be told.

A slot's newest call is kept until there is something to say; an older one is answered as soon as a newer one comes.
Once the slot is told to end none is kept: it waits for nothing but the answer that says its last reports are here. Runs
on the engine's event loop.
"""

from __future__ import annotations

import asyncio
import time

from raycolab.engine.mailbox import Inbox, Outbox
from raycolab.engine.slot_words import Call, End, EngineWord, Reply, SlotWord

__all__ = ["SlotLine"]

_LONGEST_HOLD_S = 30.0  # a call is answered after so long even with nothing


class SlotLine:
    """Words to and from one slot."""

    def __init__(self, slot: str) -> None:
        self.slot = slot
        self._heard: Inbox[SlotWord] = Inbox()
        self._words: Outbox[EngineWord] = Outbox()
        self._newest = 0
        self._ends = False
        self._waiting: asyncio.Future[None] | None = None

    def hear(self, call: Call) -> list[SlotWord]:
        """What the call brings that is new."""
        self._words.acknowledged(call.batch.received)
        if call.after_failure:
            self._words.send_again()
        return self._heard.take(call.batch.first, call.batch.messages)

    def say(self, word: EngineWord) -> None:
        """Tell the slot, with the answer to the call that waits or to the next one."""
        self._words.put(word)
        self._ends = self._ends or isinstance(word, End)
        self._wake()

    async def reply(self, call: Call) -> Reply:
        """Wait until the call is to be answered, and answer it."""
        begun = time.monotonic()
        if call.number > self._newest:
            self._newest = call.number
            self._wake()
            await asyncio.sleep(0)  # the older call goes first and takes what there is to say: this one can wait
            # A newer one may have come in between.
            if call.number == self._newest and not self._words.has_unsent and not self._ends:
                await self._wait()
        return Reply(self._words.take(self._heard.received), time.monotonic() - begun)

    async def _wait(self) -> None:
        self._waiting = waiting = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_LONGEST_HOLD_S):
                await waiting
        except TimeoutError:
            pass
        finally:
            if self._waiting is waiting:
                self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
            self._waiting = None
