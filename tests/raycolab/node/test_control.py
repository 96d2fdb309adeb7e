"""The control socket's lines, errors and engine channel, without a socket; `tests/integration` has the rest."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycolab import errors
from raycolab.errors import ClusterError, RaycolabError, UnknownSweepError, UsageError
from raycolab.node.rpc import (
    LINE_BYTES,
    ControlServer,
    EngineChannel,
    Peer,
    decode_line,
    encode_line,
    error_answer,
    error_from,
)
from raycolab.spec.values import ArgumentError
from raycolab.store import ClaimLostError, StoreOutageError
from tests.in_loop import in_loop


class Writer:
    """The half of a StreamWriter that a channel uses, kept in memory."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, data: bytes) -> None:
        """Take one line."""
        self.lines.append(json.loads(data))

    async def drain(self) -> None:
        """Never full."""


class Engine:
    """A channel and the scripted engine at its other end."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader(limit=LINE_BYTES)
        self.writer = Writer()
        self.channel = EngineChannel(self.reader, cast(asyncio.StreamWriter, self.writer))
        self.running = asyncio.create_task(self.channel.run())

    def say(self, message: Mapping[str, Any]) -> None:
        """The engine sends a line."""
        self.reader.feed_data(encode_line(message))

    async def ask(self, op: str, timeout_s: float = 5) -> asyncio.Task[dict[str, Any]]:
        """Begin a request and let it be sent."""
        asked = asyncio.create_task(self.channel.request({"op": op}, timeout_s))
        await asyncio.sleep(0)
        return asked


@in_loop
async def test_a_socket_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """The run directory was deleted beneath the head."""
    path = tmp_path / "gone" / "control"

    async def never(message: dict[str, Any], peer: Peer) -> None:
        raise AssertionError

    with pytest.raises(ClusterError) as refused:
        await ControlServer(path, never).start()
    assert re.fullmatch(
        rf"The head's control socket {path} cannot be made \(.*No such file or directory.*\): set TMPDIR to a folder of"
        r" a short path that you may write to, such as /tmp\.",
        str(refused.value),
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON))
def test_a_message_is_one_line_and_comes_back(message: dict[str, Any]) -> None:
    """Whatever is in it, there is one line break, at the end."""
    line = encode_line(message)
    assert line.count(b"\n") == 1
    assert decode_line(line) == message


@given(st.binary())
def test_any_line_is_a_message_or_a_value_error(line: bytes) -> None:
    """A damaged line ends a connection, not the supervisor."""
    with contextlib.suppress(ValueError):
        assert isinstance(decode_line(line), dict)


def test_a_message_over_the_limit_is_not_sent() -> None:
    """The sentence says what makes a message long."""
    with pytest.raises(ClusterError, match="takes 32 MiB: clear the outputs of MAIN"):
        encode_line({"main": "x" * LINE_BYTES})


@pytest.mark.parametrize("kind", sorted(set(errors.__all__) - {"Detached"}))
def test_every_error_crosses_as_itself(kind: str) -> None:
    """Class, sentence and with them the exit code are the same at both ends."""
    error = getattr(errors, kind)("what, whose turn, what to do")
    there = error_from(decode_line(encode_line(error_answer(error))))
    assert type(there) is type(error)
    assert str(there) == str(error)


@pytest.mark.parametrize(
    ("error", "met"),
    [
        (StoreOutageError("its disk is full"), ClusterError),
        (ClaimLostError("another head runs it"), ClusterError),
        (ArgumentError("no name", ("name",)), UsageError),
    ],
)
def test_an_error_made_elsewhere_keeps_its_exit_code(error: RaycolabError, met: type[RaycolabError]) -> None:
    """A command ends with the same code whether the head or the command itself met it."""
    there = error_from(decode_line(encode_line(error_answer(error))))
    assert type(there) is met
    assert (str(there), there.exit_code) == (str(error), error.exit_code)


@pytest.mark.parametrize("kind", ["SystemExit", "__name__", "annotations", None, 7, ["x"]])
def test_an_unknown_class_is_the_base_error(kind: object) -> None:
    """A name from the other side reaches nothing but the error classes."""
    assert type(error_from({"ok": False, "error": "no", "kind": kind})) is RaycolabError


@in_loop
async def test_answers_may_come_in_any_order() -> None:
    """Each request gets the answer with its id, without the id."""
    engine = Engine()
    first, second = await engine.ask("start"), await engine.ask("pause")
    assert engine.writer.lines == [{"op": "start", "id": 1}, {"op": "pause", "id": 2}]
    engine.say({"id": 2, "ok": True, "state": "PAUSED"})
    engine.say({"id": 1, "ok": True})
    assert await second == {"state": "PAUSED"}
    assert await first == {}


@in_loop
async def test_the_engines_error_is_raised_as_its_class() -> None:
    """An unknown sweep is an UnknownSweepError here too."""
    engine = Engine()
    asked = await engine.ask("start")
    engine.say({"id": 1, **error_answer(UnknownSweepError("No sweep x."))})
    with pytest.raises(UnknownSweepError, match=r"No sweep x\."):
        await asked


@in_loop
async def test_progress_is_told_as_it_comes() -> None:
    """Progress needs no request and disturbs none."""
    engine = Engine()
    seen: list[dict[str, Any]] = []
    engine.channel.on_progress = seen.append
    asked = await engine.ask("start")
    engine.say({"progress": {"complete": 1}})
    engine.say({"id": 1, "ok": True})
    engine.say({"progress": {"complete": 2}})
    engine.reader.feed_eof()
    await engine.running
    assert await asked == {}
    assert seen == [{"complete": 1}, {"complete": 2}]


@in_loop
async def test_what_is_told_has_no_id() -> None:
    """News from the supervisor waits for nothing, and a lost engine misses it."""
    engine = Engine()
    engine.channel.tell({"op": "node_lost", "node": "joiner-1"})
    engine.reader.feed_eof()
    await engine.running
    engine.channel.tell({"op": "node_lost", "node": "joiner-2"})
    assert engine.writer.lines == [{"op": "node_lost", "node": "joiner-1"}]


@in_loop
async def test_a_lost_engine_ends_every_request() -> None:
    """Nobody waits for an engine that is gone, and a later request is told at once."""
    engine = Engine()
    asked = await engine.ask("start")
    engine.reader.feed_eof()
    await engine.channel.lost()
    with pytest.raises(ClusterError, match="The engine ended before it answered"):
        await asked
    with pytest.raises(ClusterError, match=r"^The engine is gone: wait until the head has started it again"):
        await engine.channel.request({"op": "pause"}, 5)


@in_loop
async def test_a_silent_engine_ends_a_request_at_its_deadline() -> None:
    """The late answer is dropped and later requests work."""
    engine = Engine()
    late = await engine.ask("start", timeout_s=0)
    with pytest.raises(ClusterError, match="The engine did not answer within 0 s"):
        await late
    engine.say({"id": 1, "ok": True})
    asked = await engine.ask("pause")
    engine.say({"id": 2, "ok": True, "n": 2})
    assert await asked == {"n": 2}


@pytest.mark.parametrize("line", [b"nonsense\n", b"[]\n"])
@in_loop
async def test_an_engine_that_talks_nonsense_is_lost(line: bytes) -> None:
    """Nothing can be trusted after a line that is no message."""
    engine = Engine()
    engine.reader.feed_data(line)
    await engine.channel.lost()
    await engine.running
