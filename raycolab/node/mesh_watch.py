"""The head's side of every joiner's life: admit it, have it start Ray, test that all reach all, know when it is gone.

It is the hub's application; what is said either way is in `messages`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from raycolab.node.launch import machine
from raycolab.node.messages import (
    Dial,
    Dialed,
    FromJoiner,
    JoinerHello,
    RayIsDown,
    RayIsUp,
    RunsTrial,
    StartRay,
    mismatch,
    read_message,
    versions,
    written,
)
from raycolab.node.ray_command import RayPorts, required_ports
from raycolab.summary import NodeStatus
from tunnel.errors import Refused, RemoteProtocolError
from tunnel.hub import Hub
from tunnel.nodes import HUB, Node, NodeId

__all__ = ["MeshWatch", "Reachable"]

DIAL_S = 15.0  # for all the dials of one node, which run at once
TRIALS_EVERY_S = 2.0  # a joiner hears of its trial this often at most, however short trials are
LONGEST_REASON = 600  # characters of what a joiner says about itself

log = logging.getLogger("raycolab.mesh")


@dataclass(frozen=True, slots=True)
class Reachable:
    """A node whose Ray is up, and the ports of it that others must be able to dial, by what they are for."""

    id: int
    name: str
    ports: Mapping[str, int]


@dataclass(slots=True)
class _Joiner:
    node: Node
    cpus: int
    gpus: int
    machine: tuple[str, int]
    ready: bool = False  # everyone listens for it
    state: str = "joining"  # joining, starting, up, restarting, unreachable
    warning: str | None = None
    trial: str | None = None  # what it was last told that it runs

    @property
    def reachable(self) -> Reachable:
        """What others must be able to dial."""
        return Reachable(self.node.id, self.node.name, required_ports(RayPorts.of(self.node.block), head=False))


def _crowded(nodes: Iterable[tuple[tuple[str, int], int]]) -> set[tuple[str, int]]:
    """The machines whose nodes have more CPUs together than they have cores; `nodes` are machines and CPUs."""
    cpus: dict[tuple[str, int], list[int]] = {}
    for on, has in nodes:
        cpus.setdefault(on, []).append(has)
    return {on for on, of_nodes in cpus.items() if on[0] and len(of_nodes) > 1 and sum(of_nodes) > on[1]}


class MeshWatch:
    """Everything the head knows of its joiners. Give it the hub before the hub starts."""

    hub: Hub

    def __init__(self, token: str, secrets: Mapping[str, str], on_node_lost: Callable[[str], None]) -> None:
        self.token = token
        self._secrets = dict(secrets)
        self._on_node_lost = on_node_lost
        self._joiners: dict[NodeId, _Joiner] = {}
        self._head: Reachable | None = None  # once Ray's head is up
        self._questions = itertools.count(1)
        self._answers: dict[int, asyncio.Future[list[tuple[int, int]]]] = {}
        self._tests: set[asyncio.Task[None]] = set()
        self._trials: Mapping[str, str] = {}  # what runs where, by the node's name
        self._trials_timer: asyncio.TimerHandle | None = None

    def head_is_up(self, head: Reachable) -> None:
        """Ray's head takes joiners now."""
        self._head = head
        for joiner in self._joiners.values():
            self._start_if_due(joiner)

    def show_trials(self, trials: Mapping[str, str]) -> None:
        """The engine knows these trials to run now, by node: say so to each joiner whose trial is another one."""
        self._trials = trials
        if self._trials_timer is None:
            self._send_trials()

    def nodes(self, *, cpus: int, gpus: int) -> list[NodeStatus]:
        """Every node, without its trial; first the head, which has these CPUs and GPUs."""
        state = "up" if self._head else "starting"
        crowded = _crowded([(machine(), cpus), *((each.machine, each.cpus) for each in self._joiners.values())])
        rows = [
            NodeStatus(
                name=self.hub.node.name,
                state=state,
                cpus=cpus,
                gpus=gpus,
                rtt_ms=0.0,
                shares_cores=machine() in crowded,
            )
        ]
        for peer in self.hub.peers:
            joiner, rtt_s = self._joiners[peer.node.id], peer.link.round_trip_s
            rows.append(
                NodeStatus(
                    name=joiner.node.name,
                    state=joiner.state if peer.carrier is not None else "away",
                    cpus=joiner.cpus,
                    gpus=joiner.gpus,
                    rtt_ms=None if rtt_s is None else round(rtt_s * 1000, 1),
                    # Seen from there: it sent what the hub received.
                    bytes_sent=peer.traffic.received,
                    bytes_received=peer.traffic.sent,
                    control_sent=peer.traffic.control_received,
                    control_received=peer.traffic.control_sent,
                    shares_cores=joiner.machine in crowded,
                    warning=joiner.warning,
                )
            )
        return rows

    async def close(self) -> None:
        """End what still runs."""
        if self._trials_timer is not None:
            self._trials_timer.cancel()
        for test in self._tests:
            test.cancel()
        await asyncio.gather(*self._tests, return_exceptions=True)

    # As the hub's application.

    def admit(self, application: Mapping[str, Any]) -> Mapping[str, Any]:
        """Turn away whoever runs other versions, or is no joiner."""
        theirs = application.get("versions")
        sentence = mismatch(versions(), theirs if isinstance(theirs, dict) else {})
        if sentence is not None:
            raise Refused("version", sentence)
        try:
            read_message(application, JoinerHello)
        except RemoteProtocolError as error:
            raise Refused("protocol", f"The head cannot read what this joiner says of itself ({error}).") from error
        return {}

    def node_joined(self, node: Node, application: Mapping[str, Any]) -> None:
        """A joiner has its number."""
        hello: JoinerHello = read_message(application, JoinerHello)
        self._joiners[node.id] = _Joiner(node, hello.cpus, hello.gpus, (hello.machine, hello.cores))

    def node_ready(self, node: Node) -> None:
        """Everyone listens for a joiner."""
        self._joiners[node.id].ready = True
        self._start_if_due(self._joiners[node.id])

    def node_left(self, node: Node, reason: str) -> None:
        """A joiner is gone for good."""
        del self._joiners[node.id]
        self._on_node_lost(node.name)

    def message(self, node: Node, body: Mapping[str, Any]) -> None:
        """A joiner says something."""
        joiner = self._joiners.get(node.id)
        if joiner is None:
            return
        match read_message(body, FromJoiner):
            case RayIsUp() if joiner.state != "joining":
                test = asyncio.create_task(self._test(joiner))
                self._tests.add(test)
                test.add_done_callback(self._tests.discard)
            case RayIsDown(reason=reason):
                joiner.state = "restarting"
                joiner.warning = "".join(char if char.isprintable() else " " for char in reason[:LONGEST_REASON])
                log.warning("Ray on %s is down: %s", node.name, joiner.warning)
                self._on_node_lost(node.name)
            case Dialed(question=question, failed=failed):
                answer = self._answers.get(question)
                if answer is not None and not answer.done():
                    answer.set_result(failed)

    # Starting, testing and showing.

    def _send(self, node_id: int, message: msgspec.Struct) -> None:
        self.hub.message(NodeId(node_id), written(message))

    def _start_if_due(self, joiner: _Joiner) -> None:
        if self._head is not None and joiner.ready and joiner.state == "joining":
            joiner.state = "starting"
            gcs = f"{self.hub.node.address}:{self._head.ports['GCS']}"
            self._send(joiner.node.id, StartRay(gcs, self.token, self._secrets))

    def _send_trials(self) -> None:
        """Send what changed, and look again as long as something did."""
        changed = False
        for joiner in self._joiners.values():
            trial = self._trials.get(joiner.node.name)
            if trial != joiner.trial:
                joiner.trial = trial
                self._send(joiner.node.id, RunsTrial(trial))
                changed = True
        loop = asyncio.get_running_loop()
        self._trials_timer = loop.call_later(TRIALS_EVERY_S, self._send_trials) if changed else None

    async def _test(self, joiner: _Joiner) -> None:
        """See that everyone reaches a joiner whose Ray is up, and it everyone; then it counts as up.

        What the others can reach of each other was tested when they came.
        """
        assert self._head is not None
        others = [self._head] + [other.reachable for other in self._joiners.values() if other.state == "up"]
        newcomer = joiner.reachable
        failures = await asyncio.gather(
            self._failures(newcomer, others), *(self._failures(other, [newcomer]) for other in others)
        )
        joiner.warning = next((sentence for found in failures for sentence in found), None)
        joiner.state = "up" if joiner.warning is None else "unreachable"
        log.info("%s is %s", joiner.node.name, joiner.warning or "up")

    async def _failures(self, source: Reachable, targets: Iterable[Reachable]) -> list[str]:
        """A sentence for each port of these nodes that `source` cannot dial."""
        dials = [(target, role, port) for target in targets for role, port in target.ports.items()]
        failed = await self._dial_from(source.id, [(target.id, port) for target, _, port in dials])
        return [
            f"{source.name} cannot reach {target.name}'s {role} port {port}: trials may fail there; end the joiner and"
            " run it again."
            for target, role, port in dials
            if (target.id, port) in failed
        ]

    async def _dial_from(self, source: int, targets: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those of the targets, each a node and a port, that the node `source` cannot dial."""
        if source == HUB:
            codes = await asyncio.gather(*(self.hub.probe(NodeId(node), port, DIAL_S) for node, port in targets))
            return [target for target, code in zip(targets, codes, strict=True) if code is not None]
        question = next(self._questions)
        answer: asyncio.Future[list[tuple[int, int]]] = asyncio.get_running_loop().create_future()
        self._answers[question] = answer
        self._send(source, Dial(question, targets))
        try:
            return await asyncio.wait_for(answer, 2 * DIAL_S)
        except TimeoutError:
            return targets
        finally:
            del self._answers[question]
