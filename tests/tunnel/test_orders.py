"""What ROSTER frames say: every value survives its JSON, and whatever else came raises RemoteProtocolError."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.errors import RemoteProtocolError
from tunnel.nodes import FIRST_PORT, LAST_PORT, MAX_NODE, Node, NodeId, PortBlock
from tunnel.orders import Listening, Orders

nodes = st.integers(1, MAX_NODE).map(NodeId)
blocks = st.integers(FIRST_PORT, LAST_PORT).flatmap(
    lambda first: st.builds(PortBlock, st.just(first), st.integers(1, LAST_PORT + 1 - first))
)
scalars = st.sampled_from([None, True, -1, 0, 2, 255, 10_000, 40_000, 1e9, 2.5, "", "2", "127.0.0.1"])
items = scalars | st.fixed_dictionaries({}, optional=dict.fromkeys(("node", "first", "count", "port"), scalars))
json_values = items | st.lists(items, max_size=3) | st.lists(st.lists(scalars, max_size=2), max_size=2)


@given(
    st.builds(Orders, st.lists(st.tuples(nodes, blocks)).map(tuple), st.lists(nodes).map(tuple))
    | st.just(Orders(ready=True))
)
def test_orders_survive_their_json(orders: Orders) -> None:
    """What the hub orders is what the agent reads."""
    assert Orders.from_json(json.loads(json.dumps(orders.to_json()))) == orders


@given(
    st.builds(Listening, st.lists(nodes).map(tuple))
    | st.builds(lambda node, port: Listening(taken=(node, port)), nodes, st.integers(1, 65535))
)
def test_answers_survive_their_json(answer: Listening) -> None:
    """What the agent answers is what the hub reads."""
    assert Listening.from_json(json.loads(json.dumps(answer.to_json()))) == answer


def test_orders_for_nodes_name_their_blocks() -> None:
    """A node to listen for is given by its number and its ports."""
    node = Node(NodeId(3), "joiner-1", PortBlock(10010, 8), "elsewhere")
    assert Orders.for_nodes([node], [NodeId(2)]).to_json() == {
        "listen": [{"node": 3, "first": 10010, "count": 8}],
        "unlisten": [2],
    }


@pytest.mark.parametrize(
    "body",
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
    ],
)
def test_orders_of_no_use_raise(body: dict[str, Any]) -> None:
    """No order makes an agent listen outside 127.77.0.0/16 or outside the ports of blocks."""
    with pytest.raises(RemoteProtocolError):
        Orders.from_json(body)


@pytest.mark.parametrize(
    "body",
    [
        {"listening": 2},
        {"listening": "2"},
        {"listening": [2, "3"]},
        {"listening": [[2]]},
        {"listening": [0]},
        {"taken": 10000},
        {"taken": {"node": 2}},
        {"taken": {"node": 2, "port": 0}},
        {"taken": {"node": {}, "port": 10000}},
    ],
)
def test_answers_of_no_use_raise(body: dict[str, Any]) -> None:
    """Nothing an agent says can be anything but nodes and a port."""
    with pytest.raises(RemoteProtocolError):
        Listening.from_json(body)


@given(st.dictionaries(st.sampled_from(["listen", "unlisten", "ready", "listening", "taken", "x"]), json_values))
def test_any_object_is_read_or_refused(body: dict[str, Any]) -> None:
    """Whatever JSON a peer sends gives a value or RemoteProtocolError, nothing else."""
    for kind in (Orders, Listening):
        try:
            kind.from_json(body)
        except RemoteProtocolError:
            continue
