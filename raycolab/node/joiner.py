"""A joiner's long-lived process: the agent of the tunnel, and Ray while this machine is a node.

It joins, waits until everyone listens for it, starts Ray when the head says so, answers probes, and starts over under
a new number when the node was lost. It ends when the head sends it away, or when it gives up.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import logging
import socket
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from raycolab.errors import ClusterError, JoinError, PortTakenError
from raycolab.node.api import API_PORT
from raycolab.node.launch import machine
from raycolab.node.messages import (
    Dial,
    Dialed,
    JoinerHello,
    RayIsDown,
    RayIsUp,
    RunsTrial,
    StartRay,
    ToJoiner,
    read_message,
    versions,
    written,
)
from raycolab.node.ray_command import RayPorts, ports_needed, ray_environment, start_command
from raycolab.node.ray_process import RayProcess
from raycolab.providers import edge_sentence
from raycolab.text import counted
from tunnel.address import JoinAddress
from tunnel.agent import GIVE_UP_S, Agent
from tunnel.dial import proxy_variable
from tunnel.errors import HubUnreachable, ListenFailed, PinMismatch, PortTaken, Refused
from tunnel.messages import Welcome
from tunnel.nodes import HUB, Node

__all__ = ["JoinerOptions", "JoinerSupervisor"]

RESTART_S = 2.0  # between the end of Ray on this node and its next start, doubled each time
LONGEST_RESTART_S = 60.0
ANSWER_S = 2.0  # of this machine

log = logging.getLogger("raycolab.joiner")


class JoinerOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `raycolab join` was asked for, without the address, which is a secret."""

    name: str | None = None
    num_cpus: int = 1  # 0: no trials run here
    num_gpus: int = 0
    give_up_s: float = GIVE_UP_S
    reach_s: float = 60.0
    secrets: tuple[str, ...] = ()  # names of environment variables for trials on this node
    resources: Mapping[str, float] = {}  # of its own, as Ray counts them
    labels: Mapping[str, str] = {}  # by which Ray's scheduling can choose it


async def _leads_nowhere(url: str) -> bool:
    """Whether the URL names an address of this machine at which nothing listens."""
    parts = urlsplit(url)
    try:
        address = ipaddress.ip_address(parts.hostname or "")
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with socket.create_server((str(address), 0), family=family):
            pass  # only its own address can be bound
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.close()
    except ConnectionRefusedError:
        return True
    except (OSError, ValueError, TimeoutError):
        return False
    return False


class JoinerSupervisor:
    """Runs until the head ends it, `stop` is called, or it gives up. It is its agent's application."""

    def __init__(
        self,
        address: JoinAddress,
        options: JoinerOptions,
        run_dir: Path,
        environ: Mapping[str, str],
        on_change: Callable[[str, str], None],  # gets the state and a sentence
    ) -> None:
        self.state = "connecting"  # connecting, joining, starting, up, away, rejoining
        self.node: Node | None = None
        self.trial: str | None = None  # what runs here, as the head last said
        self.grace_s = 0.0  # for how long the head keeps the link of a node that is away
        # A socket on this machine that leads to the head's API.
        self.head_path = run_dir / "head"
        self._address = address
        self._options = options
        self._run_dir = run_dir
        self._environ = environ
        self._on_change = on_change
        self._agent = Agent(
            address,
            self,
            ports=ports_needed(options.num_cpus),
            name=options.name,
            hello=written(JoinerHello(versions(), options.num_cpus, options.num_gpus, *machine())),
            reach_s=options.reach_s,
            give_up_s=options.give_up_s,
            turned_away=self._on_turned_away,
        )
        self._obstacle: str | None = None  # what stands before the hub, as reported last
        self._ray: asyncio.Task[None] | None = None
        self._cut_off = False  # the tunnel is gone
        self._lives = 0  # Ray gets a directory of its own in each life as a node
        self._chores: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Leave the cluster; `run` returns soon. Ray ends first, while it can still say so to its head."""
        self._begin(self._stop())

    async def run(self) -> str:
        """Be a joiner; returns why it ended. Raises JoinError, PortTakenError or ClusterError, each a sentence."""
        proxy = proxy_variable(self._address.url)
        through = "" if proxy is None else f" through the proxy that {proxy} names"
        self._report("connecting", f"connecting to {self._address.url}{through}")
        if proxy is None and await _leads_nowhere(self._address.url):
            host = urlsplit(self._address.url).hostname
            self._report(
                "connecting",
                f"{host} is an address of this very machine, and nothing listens there. If the head runs on another"
                f" one, start it with --listen at an address that this machine can reach; trying for"
                f" {self._options.reach_s:g} s",
            )
        try:
            await self._agent.listen_unix(self.head_path, node=HUB, port=API_PORT)
            return await self._agent.run()
        except (Refused, PinMismatch) as error:
            raise JoinError(str(error)) from error
        except HubUnreachable as error:
            raise ClusterError(edge_sentence(error.headers) or str(error)) from error
        except PortTaken as error:
            raise PortTakenError(str(error)) from error
        except ListenFailed as error:
            raise ClusterError(str(error)) from error
        finally:
            await self._end_ray()
            # Those of `left` end Ray and must not be broken off; a probe ends by its own deadline.
            await asyncio.gather(*self._chores, return_exceptions=True)

    # As the agent's application.

    def joined(self, welcome: Welcome) -> None:
        """This machine is a node; Ray starts when the head says so."""
        self.node, self.grace_s = welcome.node, welcome.grace_s
        self._cut_off = False
        wanted = self._options.name
        taken = "" if wanted in (None, welcome.node.name) else f": another node is called {wanted!r}"
        self._report("joining", f"joined as {welcome.node.name}{taken}")

    def ready(self) -> None:
        """Everyone listens for this node; the head says what comes next."""

    def message(self, body: Mapping[str, Any]) -> None:
        """The head says something."""
        match read_message(body, ToJoiner):
            case StartRay() as start if self.node is not None and self._ray is None:
                self._lives += 1
                self._ray = asyncio.create_task(self._keep_ray(self.node, start))
            case Dial() as dial:
                self._begin(self._dial(dial))
            case RunsTrial(trial=trial):
                self.trial = trial

    def link(self, up: bool, reason: str) -> None:
        """The WebSocket came or went."""
        self._obstacle = None
        if up:
            self._report("up" if self._ray is not None else "joining", "the link is back")
        else:
            self._report("away", f"the link is down ({reason}); trying again")

    async def left(self, reason: str) -> None:
        """The node is lost: its Ray is of no use any more, and in the way of the next one."""
        self._report("rejoining", reason)
        self._cut_off, self.trial = True, None
        await self._end_ray()

    def _on_turned_away(self, headers: Mapping[str, str]) -> None:
        """The provider's edge answered in the hub's place: say why, once for each reason."""
        sentence = edge_sentence(headers)
        if sentence is not None and sentence != self._obstacle:
            self._obstacle = sentence
            self._report(self.state, sentence)

    # Ray.

    async def _keep_ray(self, node: Node, start: StartRay) -> None:
        """Run Ray as this node until cancelled; start it again when it ends by itself."""
        for attempt in itertools.count():
            ray = self._ray_process(node, start, attempt)
            try:
                self._report("starting", "starting Ray")
                await ray.start()
                self._agent.message(written(RayIsUp()))
                self._report("up", f"{node.name} is up with {counted(self._options.num_cpus, 'CPU')}")
                code = await ray.wait()
                reason = f"{ray.last_words()} (exit code {code})"
                await ray.stop()
            except ClusterError as error:
                reason = str(error)
            except asyncio.CancelledError:
                # Cut off from its head Ray would wait for answers that cannot come.
                await ray.stop(0.0) if self._cut_off else await ray.stop()
                raise
            self._agent.message(written(RayIsDown(reason)))
            self._report("starting", f"Ray ended: {reason}")
            await asyncio.sleep(min(RESTART_S * 2**attempt, LONGEST_RESTART_S))

    def _ray_process(self, node: Node, start: StartRay, attempt: int) -> RayProcess:
        folder = self._run_dir / f"ray{self._lives}-{attempt}"
        command = start_command(
            RayPorts.of(node.block),
            node_ip=node.address,
            node_name=node.name,
            head_address=start.gcs,
            num_cpus=self._options.num_cpus,
            # Ray counts the GPUs itself, but on a node that only pulls.
            num_gpus=self._options.num_gpus or (None if self._options.num_cpus else 0),
            temp_dir=str(folder),
            resources=self._options.resources,
            labels=self._options.labels,
        )
        environment = ray_environment(start.token, self._environ, RayPorts.of(node.block)) | start.secrets
        # What this machine's owner chose for it takes precedence over what the head sent.
        environment |= {name: self._environ[name] for name in self._options.secrets}
        return RayProcess(command, environment, ports=RayPorts.of(node.block), temp_dir=folder)

    async def _end_ray(self) -> None:
        ray, self._ray = self._ray, None
        if ray is not None:
            ray.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ray

    async def _dial(self, dial: Dial) -> None:
        """Dial what the head asks for and say what failed."""
        codes = await asyncio.gather(*(self._agent.probe(node, port) for node, port in dial.targets))
        failed = [target for target, code in zip(dial.targets, codes, strict=True) if code is not None]
        self._agent.message(written(Dialed(dial.question, failed)))

    async def _stop(self) -> None:
        await self._end_ray()
        self._agent.leave()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        chore = asyncio.create_task(work)
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    def _report(self, state: str, text: str) -> None:
        self.state = state
        log.info("%s", text)
        self._on_change(state, text)
