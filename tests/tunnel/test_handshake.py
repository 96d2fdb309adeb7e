"""HELLO and WELCOME: what was said is what is heard, and what is wrong is refused as a breach of the protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.errors import RemoteProtocolError
from tunnel.frames import MAX_JSON, Frame, FrameType, decode_json, encode_json
from tunnel.handshake import MAX_BUSY, MAX_COUNT, MAX_NAME, MAX_TEXT, PROTOCOL, Hello, Resume, Welcome
from tunnel.nodes import FIRST_PORT, LAST_PORT, MAX_NODE, Node, NodeId, PortBlock

HELLO = Hello(
    proof=bytes(range(32)),
    instance="0123456789abcdef",
    name="gpu",
    ports=26,
    namespace="3b1d/4026531840",
    busy=(10_100, 20_000),
    resume=Resume("cafe", 12),
    application={"python": "3.13"},
)
WELCOME = Welcome(
    link="cafe",
    node=Node(NodeId(3), "joiner-2", PortBlock(10_016, 32), "3b1d/4026531840"),
    incarnation="beef",
    grace_s=120.0,
    received=7,
    application={"ray": "2.60.0"},
)

WRONG: dict[str, list[object]] = {
    "proof": [None, 7, "not base64", "é" * 44, "A", "x" * 1000],
    "instance": [None, 7, "x" * (MAX_TEXT + 1), "a\nb", "\ud800"],
    "name": [7, "", "n" * (MAX_NAME + 1), "a\x1b[31m", "\ud800", "\u202e"],
    "ports": [None, 0, -1, LAST_PORT, 8.0, "8", True, 10**30],
    "namespace": [None, [], "x" * (MAX_TEXT + 1)],
    "busy": [None, {}, ["a"], [0], [65536], [10**30], [1] * (MAX_BUSY + 1)],
    "resume": [
        *("cafe", {}, [], {"link": "a"}, {"link": "a", "received": -1}, {"link": "\ud800", "received": 1}),
        *({"link": "a", "received": MAX_COUNT + 1}, {"link": "a", "received": True}),
    ],
    "application": [None, []],
}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def heard(body: dict[str, Any], kind: FrameType = FrameType.HELLO) -> dict[str, Any]:
    """An object as it comes out of a frame."""
    return decode_json(Frame(kind, payload=encode_json(kind, body)))


class TestHello:
    """An agent's first word."""

    @pytest.mark.parametrize("hello", [HELLO, Hello(b"", "i", None, 1, "host")])
    def test_what_was_said_is_heard(self, hello: Hello) -> None:
        """Through JSON, with and without name and resumption."""
        assert Hello.from_json(heard(hello.to_json())) == hello

    def test_its_json(self) -> None:
        """PROTOCOL.md names these keys."""
        assert list(HELLO.to_json()) == [
            *("protocol", "proof", "instance", "name", "ports", "namespace", "busy", "resume", "application")
        ]

    def test_the_proof_is_not_shown(self) -> None:
        """A HELLO in a log gives nothing away."""
        assert "proof" not in repr(HELLO)

    def test_it_fits_into_a_frame_however_many_ports_are_busy(self) -> None:
        """More than MAX_BUSY of them are left out."""
        hello = Hello(bytes(32), "i", "n" * MAX_NAME, 8, "n" * MAX_TEXT, tuple(range(20_000, 30_000)))
        body = heard(hello.to_json())
        assert len(Hello.from_json(body).busy) == MAX_BUSY
        assert len(json.dumps(body)) < MAX_JSON

    @pytest.mark.parametrize("protocol", [0, PROTOCOL + 1, str(PROTOCOL), None])
    def test_another_protocol_is_not_guessed_at(self, protocol: object) -> None:
        """Whatever else the HELLO says."""
        with pytest.raises(RemoteProtocolError, match=f"protocol {protocol!r} where this hub speaks {PROTOCOL}"):
            Hello.from_json({"protocol": protocol})

    @pytest.mark.parametrize(
        ("key", "wrong"),
        [(key, wrong) for key, values in WRONG.items() for wrong in values],
    )
    def test_a_field_that_is_not_what_it_should_be(self, key: str, wrong: object) -> None:
        """A stranger sends what he likes; the only error is ours."""
        with pytest.raises(RemoteProtocolError):
            Hello.from_json(HELLO.to_json() | {key: wrong})

    @given(st.dictionaries(st.sampled_from(sorted(HELLO.to_json())), values))
    def test_any_object_is_a_hello_or_a_protocol_error(self, changes: dict[str, object]) -> None:
        """And what is taken is what was said."""
        body = HELLO.to_json() | changes
        try:
            hello = Hello.from_json(body)
        except RemoteProtocolError:
            return
        for key in ("instance", "name", "ports", "namespace", "busy", "application"):
            assert hello.to_json()[key] == body[key]


class TestWelcome:
    """The hub's answer."""

    def test_what_was_said_is_heard(self) -> None:
        """The namespace is the agent's own knowledge."""
        body = heard(WELCOME.to_json(), FrameType.WELCOME)
        assert Welcome.from_json(body, WELCOME.node.namespace) == WELCOME

    def test_its_json(self) -> None:
        """PROTOCOL.md names these keys."""
        assert list(WELCOME.to_json()) == [
            *("link", "node", "name", "first", "count", "incarnation", "grace_s", "received", "application")
        ]

    @pytest.mark.parametrize(
        ("key", "wrong"),
        [
            *(("link", wrong) for wrong in (None, 7, "x" * (MAX_TEXT + 1))),
            *(("node", wrong) for wrong in (None, 0, MAX_NODE + 1, "3", True)),
            *(("name", wrong) for wrong in (None, "a\nb")),
            *(("first", wrong) for wrong in (None, FIRST_PORT - 1, LAST_PORT + 1)),
            *(("count", wrong) for wrong in (None, 0, LAST_PORT + 1 - 10_016 + 1)),
            *(("incarnation", wrong) for wrong in (None, 7)),
            *(("grace_s", wrong) for wrong in (None, -1, "120", True, float("nan"), float("inf"), 10**400)),
            *(("received", wrong) for wrong in (None, -1, MAX_COUNT + 1, 1.5)),
            ("application", None),
        ],
    )
    def test_a_field_that_is_not_what_it_should_be(self, key: str, wrong: object) -> None:
        """An agent does not stumble over a hub that is none."""
        with pytest.raises(RemoteProtocolError):
            Welcome.from_json(WELCOME.to_json() | {key: wrong}, "space")

    @given(st.dictionaries(st.sampled_from(sorted(WELCOME.to_json())), values))
    def test_any_object_is_a_welcome_or_a_protocol_error(self, changes: dict[str, object]) -> None:
        """And what is taken is what was said."""
        body = WELCOME.to_json() | changes
        try:
            welcome = Welcome.from_json(body, "space")
        except RemoteProtocolError:
            return
        assert welcome.to_json() == body
