"""HELLO, WELCOME and ROSTER: what was said is what is heard, and whatever else comes is a breach of the protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from tests.tunnel.door import HELLO, WELCOME
from tunnel.errors import RemoteProtocolError
from tunnel.frames import MAX_JSON, Frame, FrameType, decode_json, encode_json
from tunnel.messages import (
    MAX_BUSY,
    MAX_COUNT,
    MAX_NAME,
    MAX_TEXT,
    PROTOCOL,
    Hello,
    Listening,
    Message,
    NodePort,
    NodePorts,
    Orders,
    Ready,
    Resume,
    Taken,
    Welcome,
    roster_of_hub,
)
from tunnel.nodes import FIRST_PORT, LAST_PORT, MAX_NODE, Node, NodeId, PortBlock

BARE = Hello(proof=b"", instance="i", ports=1, namespace="host", busy=(), application={})

TEXTS: list[object] = [None, 7, [], "x" * (MAX_TEXT + 1), "a\nb", "a\x1b[31m", "\u202e", "\ud800"]
WRONG_HELLO: dict[str, list[object]] = {
    "proof": [None, 7, "not base64", "é" * 44, "A", "x" * 1000],
    "instance": TEXTS,
    "name": [7, "", "n" * (MAX_NAME + 1), "a\x1b[31m", "\ud800", "\u202e"],
    "ports": [None, 0, -1, LAST_PORT, 8.0, "8", True, 10**30],
    "namespace": TEXTS,
    "busy": [None, {}, ["a"], [0], [65536], [True], [10**30], [1] * (MAX_BUSY + 1)],
    "resume": [
        *("cafe", {}, [], {"link": "a"}, {"link": "a", "received": -1}, {"link": "\ud800", "received": 1}),
        *({"link": "a", "received": MAX_COUNT + 1}, {"link": "a", "received": True}),
    ],
    "application": [None, []],
}
WRONG_WELCOME: dict[str, list[object]] = {
    "link": TEXTS,
    "node": [None, 0, MAX_NODE + 1, "3", True],
    "name": TEXTS,
    "first": [None, FIRST_PORT - 1, LAST_PORT + 1],
    "count": [None, 0, LAST_PORT + 1 - 10_016 + 1, 10**30],
    "incarnation": TEXTS,
    "grace_s": [None, -1, "120", True, float("nan"), float("inf"), 10**400],
    "received": [None, -1, MAX_COUNT + 1, 1.5],
    "application": [None, []],
}


def heard(message: Message) -> dict[str, Any]:
    """A message as it comes out of a frame."""
    return decode_json(Frame(FrameType.HELLO, payload=encode_json(FrameType.HELLO, message.to_json())))


class TestHello:
    """An agent's first word."""

    @pytest.mark.parametrize("hello", [replace(HELLO, proof=bytes(32), resume=Resume("cafe", 12)), BARE])
    def test_what_was_said_is_heard(self, hello: Hello) -> None:
        """Through JSON, with and without name and resumption."""
        assert Hello.from_json(heard(hello)) == hello

    def test_the_proof_is_not_shown(self) -> None:
        """A HELLO in a log gives nothing away, and tells everything else."""
        hello = replace(HELLO, proof=bytes(range(32)))
        shown = f"{hello!r}{hello.__rich_repr__()}"
        assert "proof" not in shown
        assert str(hello.proof) not in shown
        assert "instance='0123456789abcdef'" in shown

    def test_it_fits_into_a_frame_however_many_ports_are_busy(self) -> None:
        """With the longest texts."""
        text = "n" * MAX_TEXT
        busy = tuple(range(20_000, 20_000 + MAX_BUSY))
        hello = Hello(proof=bytes(32), instance=text, name=text, ports=8, namespace=text, busy=busy, application={})
        assert len(json.dumps(hello.to_json())) < MAX_JSON

    @pytest.mark.parametrize("protocol", [0, PROTOCOL + 1, str(PROTOCOL), None])
    def test_another_protocol_is_not_guessed_at(self, protocol: object) -> None:
        """Whatever else the HELLO says."""
        with pytest.raises(RemoteProtocolError, match=f"protocol {protocol!r} where this hub speaks {PROTOCOL}"):
            Hello.from_json({"protocol": protocol})


class TestWelcome:
    """The hub's answer."""

    def test_what_was_said_is_heard(self) -> None:
        """And makes a node."""
        assert Welcome.from_json(heard(WELCOME)) == WELCOME
        assert WELCOME.node == Node(NodeId(3), "joiner-2", PortBlock(10_016, 32))


@pytest.mark.parametrize(
    ("said", "key", "wrong"),
    [
        (said, key, wrong)
        for said, table in ((HELLO, WRONG_HELLO), (WELCOME, WRONG_WELCOME))
        for key, values in table.items()
        for wrong in values
    ],
)
def test_a_field_that_is_not_what_it_should_be(said: Hello | Welcome, key: str, wrong: object) -> None:
    """A stranger sends what he likes, and so does a hub that is none; the only error is ours."""
    with pytest.raises(RemoteProtocolError, match=f"not a valid {type(said).__name__}: "):
        said.from_json(said.to_json() | {key: wrong})


class TestRoster:
    """The hub's orders, and an agent's answers."""

    def test_their_json_is_the_protocols(self) -> None:
        """As PROTOCOL.md shows it, with no other key."""
        node = Node(NodeId(3), "joiner-1", PortBlock(10010, 8))
        assert json.loads(json.dumps(Orders((NodePorts.of(node),), (NodeId(2),)).to_json())) == {
            "listen": [{"node": 3, "first": 10010, "count": 8}],
            "unlisten": [2],
        }
        assert Ready().to_json() == {"ready": True}
        assert json.loads(json.dumps(Listening((NodeId(3),)).to_json())) == {"listening": [3]}
        assert Taken(NodePort(NodeId(3), 10020)).to_json() == {"taken": {"node": 3, "port": 10020}}

    @pytest.mark.parametrize(
        "wrong",
        [
            {"listen": 5},
            {"listen": {"node": 2, "first": 10000, "count": 8}},
            {"listen": [2]},
            {"listen": [{"node": 2, "first": 10000}]},
            {"listen": [{"node": "2", "first": 10000, "count": 8}]},
            {"listen": [{"node": "2.example.com", "first": 10000, "count": 8}]},
            {"listen": [{"node": 255, "first": 10000, "count": 8}]},
            {"listen": [{"node": True, "first": 10000, "count": 8}]},
            {"listen": [{"node": 2, "first": 80, "count": 8}]},
            {"listen": [{"node": 2, "first": 32767, "count": 2}]},
            {"listen": [{"node": 2, "first": 10000, "count": 1e9}]},
            {"unlisten": 3},
            {"unlisten": ["3"]},
            {"unlisten": [None]},
            {"unlisten": [1] * (MAX_NODE + 1)},
        ],
    )
    def test_orders_of_no_use_raise(self, wrong: dict[str, Any]) -> None:
        """No order makes an agent listen outside 127.77.0.0/16 or outside the ports of blocks."""
        with pytest.raises(RemoteProtocolError, match=rf"not a valid Orders: .* - at `\$\.{next(iter(wrong))}"):
            roster_of_hub({"listen": [], "unlisten": []} | wrong)
