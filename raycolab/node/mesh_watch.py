"""The head's side of every joiner's life: admit it, have it start Ray, test that all reach all, know when it is gone.

It is the hub's application. Between head and joiners go these messages (the tunnel's MESSAGE frames):

    head -> joiner   {"start": {"gcs", "token", "secrets"}}    everyone listens for you and Ray's head is up
    joiner -> head   {"ray": "up"} | {"ray": "down", "reason"}
    head -> joiner   {"probe": id, "targets": [[node, port], ...]}
    joiner -> head   {"probed": id, "failed": [[node, port], ...]}
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from raycolab.node.ray_command import RayPorts, required_ports
from raycolab.node.versions import mismatch, versions
from tunnel.errors import Refused
from tunnel.hub import Hub
from tunnel.nodes import HUB, Node, NodeId
from tunnel.transport import Traffic

__all__ = ["MeshWatch", "Probe", "Reachable", "failure_sentence", "pairs", "plan"]

PROBE_S = 15.0  # for all the dials of one node, which run at once
LONGEST_REASON = 600  # characters of what a joiner says about itself

log = logging.getLogger("raycolab.mesh")


@dataclass(slots=True)
class _Joiner:
    node: Node
    cpus: int
    gpus: int
    ready: bool = False  # everyone listens for it
    state: str = "joining"  # joining, starting, up, restarting, unreachable
    warning: str | None = None

    @property
    def reachable(self) -> Reachable:
        """What others must be able to dial."""
        return Reachable(self.node.id, self.node.name, required_ports(RayPorts.of(self.node.block), head=False))


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

    def head_is_up(self, head: Reachable) -> None:
        """Ray's head takes joiners now."""
        self._head = head
        for joiner in self._joiners.values():
            self._start_if_due(joiner)

    def nodes(self, *, cpus: int, gpus: int) -> list[dict[str, Any]]:
        """Every node as `status --json` shows it, the head (of so many CPUs and GPUs) first."""
        head: dict[str, Any] = {"name": self.hub.node.name, "state": "up" if self._head else "starting"}
        head |= {"cpus": cpus, "gpus": gpus, "rtt_ms": 0.0, **_seen_from_there(Traffic()), "warning": None}
        rows = [head]
        for peer in self.hub.peers:
            joiner = self._joiners[peer.node.id]
            rtt_s = peer.link.round_trip_s
            rows.append(
                {
                    "name": joiner.node.name,
                    "state": joiner.state if peer.carrier is not None else "away",
                    "cpus": joiner.cpus,
                    "gpus": joiner.gpus,
                    "rtt_ms": None if rtt_s is None else round(rtt_s * 1000, 1),
                    **_seen_from_there(peer.traffic),
                    "warning": joiner.warning,
                }
            )
        return rows

    async def close(self) -> None:
        """End the tests that still run."""
        for test in self._tests:
            test.cancel()
        await asyncio.gather(*self._tests, return_exceptions=True)

    # As the hub's application.

    def admit(self, application: Mapping[str, Any]) -> Mapping[str, Any]:
        """Turn away whoever runs other versions."""
        theirs = application.get("versions")
        sentence = mismatch(versions(), theirs if isinstance(theirs, dict) else {})
        if sentence is not None:
            raise Refused("version", sentence)
        return {}

    def node_joined(self, node: Node, application: Mapping[str, Any]) -> None:
        """A joiner has its number."""
        cpus, gpus = (application.get(name) for name in ("cpus", "gpus"))
        self._joiners[node.id] = _Joiner(
            node, cpus if isinstance(cpus, int) else 1, gpus if isinstance(gpus, int) else 0
        )

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
        if body.get("ray") == "up" and joiner.state != "joining":
            test = asyncio.create_task(self._test(joiner))
            self._tests.add(test)
            test.add_done_callback(self._tests.discard)
        elif body.get("ray") == "down":
            joiner.state = "restarting"
            reason = str(body.get("reason", ""))[:LONGEST_REASON]
            joiner.warning = "".join(letter if letter.isprintable() else " " for letter in reason)
            log.warning("Ray on %s is down: %s", node.name, joiner.warning)
            self._on_node_lost(node.name)
        elif isinstance(question := body.get("probed"), int):
            answer = self._answers.get(question)
            if answer is not None and not answer.done():
                answer.set_result(pairs(body.get("failed")))

    # Starting and testing.

    def _start_if_due(self, joiner: _Joiner) -> None:
        if self._head is not None and joiner.ready and joiner.state == "joining":
            joiner.state = "starting"
            gcs = f"{self.hub.node.address}:{self._head.ports['GCS']}"
            start = {"gcs": gcs, "token": self.token, "secrets": self._secrets}
            self.hub.message(joiner.node.id, {"start": start})

    async def _test(self, joiner: _Joiner) -> None:
        """See that everyone reaches a joiner whose Ray is up, and it everyone; then it counts as up."""
        assert self._head is not None
        others = [self._head] + [other.reachable for other in self._joiners.values() if other.state == "up"]
        probes = plan(joiner.reachable, others)
        failed: list[Probe] = []
        sources = {probe.source for probe in probes}
        for result in await asyncio.gather(*(self._dial_from(source, probes) for source in sources)):
            failed += result
        joiner.warning = failure_sentence(failed, [joiner.reachable, *others])
        joiner.state = "up" if joiner.warning is None else "unreachable"
        log.info("%s is %s", joiner.node.name, joiner.warning or "up")

    async def _dial_from(self, source: int, probes: list[Probe]) -> list[Probe]:
        """The probes that this node should carry out and that fail."""
        mine = [probe for probe in probes if probe.source == source]
        if source == HUB:
            codes = await asyncio.gather(*(self.hub.probe(NodeId(p.target), p.port, PROBE_S) for p in mine))
            return [probe for probe, code in zip(mine, codes, strict=True) if code is not None]
        question = next(self._questions)
        answer: asyncio.Future[list[tuple[int, int]]] = asyncio.get_running_loop().create_future()
        self._answers[question] = answer
        targets = [[probe.target, probe.port] for probe in mine]
        self.hub.message(NodeId(source), {"probe": question, "targets": targets})
        try:
            failed = await asyncio.wait_for(answer, 2 * PROBE_S)
        except TimeoutError:
            return mine
        finally:
            del self._answers[question]
        return [probe for probe in mine if (probe.target, probe.port) in failed]


def _seen_from_there(traffic: Traffic) -> dict[str, int]:
    """A node's bytes: what the hub received it sent."""
    return {
        "bytes_sent": traffic.received,
        "bytes_received": traffic.sent,
        "control_sent": traffic.control_received,
        "control_received": traffic.control_sent,
    }


@dataclass(frozen=True, slots=True)
class Reachable:
    """A node whose Ray is up, and the ports of it that others must be able to dial, by what they are for."""

    id: int
    name: str
    ports: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Probe:
    """One dial: from the node `source` to a port of the node `target`."""

    source: int
    target: int
    port: int


def plan(newcomer: Reachable, others: Iterable[Reachable]) -> list[Probe]:
    """Every dial between a newcomer and the others, in both directions."""
    probes = []
    for other in others:
        probes += [Probe(other.id, newcomer.id, port) for port in newcomer.ports.values()]
        probes += [Probe(newcomer.id, other.id, port) for port in other.ports.values()]
    return probes


def failure_sentence(failed: Iterable[Probe], nodes: Iterable[Reachable]) -> str | None:
    """One sentence for the first dial that failed, None when none did."""
    known = {node.id: node for node in nodes}
    for probe in failed:
        source, target = known.get(probe.source), known.get(probe.target)
        if source is None or target is None:
            continue
        port = next((f"{role} port" for role, port in target.ports.items() if port == probe.port), "port")
        return (
            f"{source.name} cannot reach {target.name}'s {port} {probe.port}: trials may fail there; "
            f"end the joiner and run it again."
        )
    return None


def pairs(value: object) -> list[tuple[int, int]]:
    """The (node, port) pairs in what a peer sent; what is no pair of numbers is left out."""
    if not isinstance(value, list):
        return []
    return [
        (item[0], item[1])
        for item in value
        if isinstance(item, list) and len(item) == 2 and all(isinstance(number, int) for number in item)
    ]
