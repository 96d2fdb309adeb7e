"""The head's side of its joiners' lives, played with a hub that only takes notes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from raycolab.node import mesh_watch
from raycolab.node.mesh_watch import LONGEST_REASON, MeshWatch, Reachable
from raycolab.node.messages import versions
from raycolab.node.ray_command import RayPorts, ports_needed, required_ports
from raycolab.summary import NodeStatus
from tests.in_loop import in_loop
from tunnel.errors import Refused, RemoteProtocolError
from tunnel.frames import ResetCode
from tunnel.nodes import Node, NodeId, PortBlock
from tunnel.transport import Traffic

BLOCK = ports_needed(1)
TOKEN = "t" * 32


def node(number: int, name: str) -> Node:
    """A node with a block of its own."""
    return Node(NodeId(number), name, PortBlock(10_000 + number * BLOCK, BLOCK))


def ports(of: Node, *, head: bool = False) -> dict[str, int]:
    """What others must be able to dial."""
    return required_ports(RayPorts.of(of.block), head=head)


HEAD = node(1, "head")


@dataclass
class NotingHub:
    """A hub that carries nothing: what it was told to send, and which dials of its own fail."""

    node: Node = HEAD
    peers: list[Any] = field(default_factory=list)
    sent: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)
    closed_ports: set[int] = field(default_factory=set)

    def message(self, node_id: NodeId, body: Mapping[str, Any]) -> None:
        """Note what a joiner would get."""
        self.sent.append((node_id, body))

    async def probe(self, node_id: NodeId, port: int, timeout_s: float) -> ResetCode | None:
        """Dial, by the script."""
        return ResetCode.REFUSED if port in self.closed_ports else None


class Scene:
    """A watch with its hub, and joiners that answer as they are told to."""

    def __init__(self) -> None:
        self.hub = NotingHub()
        self.lost: list[str] = []
        self.watch = MeshWatch(TOKEN, {"KEY": "value"}, self.lost.append)
        self.watch.hub = self.hub  # type: ignore[assignment]

    def head_is_up(self) -> None:
        """Ray's head answers."""
        self.watch.head_is_up(Reachable(HEAD.id, HEAD.name, ports(HEAD, head=True)))

    def join(self, joiner: Node, **application: object) -> None:
        """A joiner gets its number and everyone listens for it."""
        link = SimpleNamespace(round_trip_s=0.0421)
        self.hub.peers.append(SimpleNamespace(node=joiner, link=link, carrier=object(), traffic=Traffic(8, 2, 15, 5)))
        self.watch.node_joined(joiner, {"versions": versions(), "cpus": 2, "gpus": 1, **application})
        self.watch.node_ready(joiner)

    async def up(self, joiner: Node, failed: Mapping[int, object] | None = None) -> None:
        """Ray runs there; whoever is asked to dial says what failed, `failed` by the number of who dials."""
        told = len(self.hub.sent)
        self.watch.message(joiner, UP)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for number, body in self.hub.sent[told:]:
            asked = next(peer.node for peer in self.hub.peers if peer.node.id == number)
            answer = {"question": body["question"], "failed": (failed or {}).get(number, [])}
            self.watch.message(asked, {"type": "dialed", **answer})
        for _ in range(5):
            await asyncio.sleep(0)

    def seen(self, name: str) -> NodeStatus:
        """What `status` has of a node."""
        return next(row for row in self.watch.nodes(cpus=4, gpus=0) if row.name == name)


FIRST, SECOND = node(2, "joiner-1"), node(3, "joiner-2")
GCS = ports(HEAD, head=True)["GCS"]
START = {"type": "start-ray", "gcs": f"127.77.0.1:{GCS}", "token": TOKEN, "secrets": {"KEY": "value"}}
UP = {"type": "ray-is-up"}


def test_a_joiner_of_our_versions_is_admitted() -> None:
    """The head has nothing to say to it yet."""
    assert Scene().watch.admit({"versions": versions()}) == {}


@pytest.mark.parametrize("said", [{}, {"versions": None}, {"versions": {"python": "2.7"}}])
def test_a_joiner_of_other_versions_is_refused(said: Mapping[str, object]) -> None:
    """As is one that names none."""
    with pytest.raises(Refused, match="cannot form one cluster") as refused:
        Scene().watch.admit(said)
    assert refused.value.code == "version"


def test_a_joiner_starts_ray_once_the_head_is_up_and_all_listen() -> None:
    """Whichever comes last; and it is told once."""
    scene = Scene()
    scene.join(FIRST)
    assert scene.hub.sent == []
    scene.head_is_up()
    assert scene.hub.sent == [(2, START)]
    scene.join(SECOND)
    scene.watch.node_ready(SECOND)
    assert scene.hub.sent == [(2, START), (3, START)]
    assert scene.seen("joiner-2").state == "starting"


@in_loop
async def test_a_joiner_that_everyone_reaches_is_up() -> None:
    """The head dials it, it dials the head; nobody else is there."""
    scene = Scene()
    scene.head_is_up()
    scene.join(FIRST)
    await scene.up(FIRST)
    assert (scene.seen("joiner-1").state, scene.seen("joiner-1").warning) == ("up", None)
    (_, question) = scene.hub.sent[-1]
    assert question["targets"] == [(1, port) for port in ports(HEAD, head=True).values()]


@in_loop
async def test_joiners_dial_each_other() -> None:
    """The second one's coming is tested by the first one too."""
    scene = Scene()
    scene.head_is_up()
    scene.join(FIRST)
    await scene.up(FIRST)
    scene.join(SECOND)
    await scene.up(SECOND)
    asked = {number: body["targets"] for number, body in scene.hub.sent if body["type"] == "dial"}
    assert asked[2] == [(3, port) for port in ports(SECOND).values()]
    assert (1, GCS) in asked[3]
    assert (2, ports(FIRST)["node manager"]) in asked[3]
    assert scene.seen("joiner-2").state == "up"


@in_loop
async def test_a_dial_of_the_head_that_fails_is_named() -> None:
    """The joiner is there, unreachable, and says why; trials are the scheduler's business."""
    scene = Scene()
    scene.head_is_up()
    scene.join(FIRST)
    port = ports(FIRST)["object manager"]
    scene.hub.closed_ports.add(port)
    await scene.up(FIRST)
    assert scene.seen("joiner-1").state == "unreachable"
    assert str(scene.seen("joiner-1").warning).startswith(f"head cannot reach joiner-1's object manager port {port}:")


@in_loop
async def test_a_dial_of_a_joiner_that_fails_is_named() -> None:
    """Whoever dials says so."""
    scene = Scene()
    scene.head_is_up()
    scene.join(FIRST)
    await scene.up(FIRST, {2: [[1, GCS]]})
    assert scene.seen("joiner-1").warning == (
        f"joiner-1 cannot reach head's GCS port {GCS}: trials may fail there; end the joiner and run it again."
    )
    await scene.up(FIRST)
    assert scene.seen("joiner-1").state == "up"


@in_loop
async def test_ray_that_ends_on_a_joiner_is_told_to_the_engine() -> None:
    """Its trials are lost; its reason is shown, bounded and printable, until it is up again."""
    scene = Scene()
    scene.head_is_up()
    scene.join(FIRST)
    await scene.up(FIRST)
    scene.watch.message(FIRST, {"type": "ray-is-down", "reason": "\x1b[31mout of\nmemory" + "!" * 10_000})
    assert scene.lost == ["joiner-1"]
    assert scene.seen("joiner-1").state == "restarting"
    warning = scene.seen("joiner-1").warning
    assert warning.startswith(" [31mout of memory!!")
    assert len(warning) == LONGEST_REASON
    await scene.up(FIRST)
    assert (scene.seen("joiner-1").state, scene.seen("joiner-1").warning) == ("up", None)


@in_loop
async def test_a_joiner_that_leaves_is_told_to_the_engine() -> None:
    """And what it says afterwards is nobody's."""
    scene = Scene()
    scene.head_is_up()
    scene.join(FIRST)
    await scene.up(FIRST)
    scene.hub.peers.clear()
    scene.watch.node_left(FIRST, "gone")
    scene.watch.message(FIRST, UP)
    assert scene.lost == ["joiner-1"]
    assert [row.name for row in scene.watch.nodes(cpus=1, gpus=0)] == ["head"]


def test_nodes_share_cores_where_their_machine_has_fewer_than_they_have_cpus() -> None:
    """Two of 2 CPUs on 3 cores do, one beside them on a machine of its own does not; 4 cores are enough for both."""
    for cores, shared in ((3, True), (4, False)):
        scene = Scene()
        scene.join(FIRST, machine="one", cores=cores)
        scene.join(SECOND, machine="one", cores=cores)
        scene.join(node(4, "joiner-3"), machine="two", cores=1)
        found = {name: scene.seen(name).shares_cores for name in ("head", "joiner-1", "joiner-2", "joiner-3")}
        assert found == {"head": False, "joiner-1": shared, "joiner-2": shared, "joiner-3": False}


@in_loop
async def test_what_a_joiner_says_out_of_turn_does_nothing() -> None:
    """Ray cannot be up before it was to start, and only what was asked is answered."""
    scene = Scene()
    scene.watch.node_joined(FIRST, {"versions": versions()})
    for body in (UP, {"type": "dialed", "question": 99, "failed": []}):
        scene.watch.message(FIRST, body)
    await scene.watch.close()
    assert scene.hub.sent == []


@pytest.mark.parametrize("body", [{}, {"type": "x"}, {"type": "dialed", "question": True, "failed": []}, {"type": []}])
def test_what_is_no_message_ends_the_joiners_link(body: Mapping[str, Any]) -> None:
    """It runs the same version, so it means harm or is broken."""
    scene = Scene()
    scene.join(FIRST)
    with pytest.raises(RemoteProtocolError):
        scene.watch.message(FIRST, body)


@in_loop
async def test_each_joiner_hears_of_its_own_trial_and_only_when_it_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, then at a steady pace, the last one included; nothing when nothing changes."""
    monkeypatch.setattr(mesh_watch, "TRIALS_EVERY_S", 0.02)
    scene = Scene()
    scene.join(FIRST)
    scene.join(SECOND)
    scene.watch.show_trials({"joiner-1": "#1 svc x iris", "head": "#2 svc x iris"})
    first = (2, {"type": "runs-trial", "trial": "#1 svc x iris"})
    assert scene.hub.sent == [first]
    scene.watch.show_trials({"joiner-1": "#3 svc x iris"})
    scene.watch.show_trials({"joiner-2": "#4 svc x iris"})
    assert scene.hub.sent == [first]
    await asyncio.sleep(0.2)
    last = [(2, {"type": "runs-trial", "trial": None}), (3, {"type": "runs-trial", "trial": "#4 svc x iris"})]
    assert scene.hub.sent == [first, *last]
    scene.watch.show_trials({"joiner-2": "#4 svc x iris"})
    await scene.watch.close()
    assert scene.hub.sent == [first, *last]


def test_nodes_are_shown_with_their_links() -> None:
    """Bytes are the node's own: what the hub received it sent; a link that is down is away."""
    scene = Scene()
    assert scene.seen("head").state == "starting"
    scene.head_is_up()
    scene.join(FIRST)
    assert scene.seen("head") == NodeStatus(name="head", state="up", cpus=4, gpus=0, rtt_ms=0.0)
    assert scene.seen("joiner-1") == NodeStatus(
        name="joiner-1",
        state="starting",
        cpus=2,
        gpus=1,
        rtt_ms=42.1,
        bytes_sent=20,
        bytes_received=10,
        control_sent=5,
        control_received=2,
    )
    scene.hub.peers[0].carrier = None
    scene.hub.peers[0].link.round_trip_s = None
    assert (scene.seen("joiner-1").state, scene.seen("joiner-1").rtt_ms) == ("away", None)


@pytest.mark.parametrize("said", [{"cpus": "many"}, {"gpus": -1}, {"cpus": None}, {"cpus": True}])
def test_a_joiner_that_claims_what_is_no_number_is_refused(said: Mapping[str, object]) -> None:
    """Before it is a node."""
    with pytest.raises(Refused, match="The head cannot read what this joiner says of itself") as refused:
        Scene().watch.admit({"versions": versions(), **said})
    assert refused.value.code == "protocol"


@in_loop
async def test_tests_under_way_end_with_the_head() -> None:
    """A joiner that was asked and never answers keeps nobody."""
    scene = Scene()
    scene.head_is_up()
    scene.join(FIRST)
    scene.watch.message(FIRST, UP)
    await asyncio.sleep(0)
    await asyncio.wait_for(scene.watch.close(), 1)
    assert scene.seen("joiner-1").state == "starting"
