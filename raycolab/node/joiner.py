"""A joiner's long-lived process: the agent of the tunnel, and Ray while this machine is a node.

It joins, waits until everyone listens for it, starts Ray when the head says so, answers probes, and starts over under
a new number when the node was lost. It ends when the head sends it away, or when it gives up.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raycolab.errors import ClusterError, JoinError, PortTakenError
from raycolab.node.mesh_watch import pairs
from raycolab.node.ray_command import RayPorts, joiner_command, ports_needed, quick_imports, ray_environment
from raycolab.node.ray_process import RayProcess
from raycolab.node.trial_sign import SIGNS_VARIABLE
from raycolab.node.versions import versions
from raycolab.providers import edge_sentence
from tunnel.address import JoinAddress
from tunnel.agent import GIVE_UP_S, Agent
from tunnel.errors import HubUnreachable, ListenFailed, PinMismatch, PortTaken, Refused
from tunnel.handshake import Welcome
from tunnel.nodes import Node

__all__ = ["JoinerOptions", "JoinerSupervisor"]

RESTART_S = 2.0  # between the end of Ray on this node and its next start, doubled each time
LONGEST_RESTART_S = 60.0

log = logging.getLogger("raycolab.joiner")


@dataclass(frozen=True, slots=True)
class JoinerOptions:
    """What `raycolab join` was asked for, without the address, which is a secret."""

    name: str | None = None
    num_cpus: int = 1
    num_gpus: int = 0
    give_up_s: float = GIVE_UP_S
    reach_s: float = 60.0
    secrets: tuple[str, ...] = ()  # names of environment variables for trials on this node


class JoinerSupervisor:
    """Runs until the head ends it, `stop` is called, or it gives up. It is its agent's application."""

    def __init__(
        self,
        address: JoinAddress,
        options: JoinerOptions,
        run_dir: Path,
        environ: Mapping[str, str],
        changed: Callable[[str, str], None],
    ) -> None:
        self.state = "connecting"  # connecting, joining, starting, up, away, rejoining
        self.node: Node | None = None
        self._address = address
        self._options = options
        self._run_dir = run_dir
        self._environ = environ
        self._changed = changed
        self._agent = Agent(
            address,
            self,
            ports=ports_needed(options.num_cpus),
            name=options.name,
            hello={"versions": versions(), "cpus": options.num_cpus, "gpus": options.num_gpus},
            reach_s=options.reach_s,
            give_up_s=options.give_up_s,
            turned_away=self._on_turned_away,
        )
        self._obstacle: str | None = None  # what stands before the hub and was said last
        # Where its slots say what they run.
        self.signs = run_dir / "signs"
        self.signs.mkdir(mode=0o700, exist_ok=True)
        self._ray: asyncio.Task[None] | None = None
        self._cut_off = False  # the tunnel is gone
        self._lives = 0  # Ray gets a directory of its own in each life as a node
        self._chores: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Leave the cluster; `run` returns soon. Ray ends first, while it can still say so to its head."""
        self._begin(self._stop())

    async def run(self) -> str:
        """Be a joiner; returns why it ended. Raises JoinError, PortTakenError or ClusterError, each a sentence."""
        self._say("connecting", f"connecting to {self._address.url}")
        try:
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
        self.node = welcome.node
        self._cut_off = False
        wanted = self._options.name
        taken = "" if wanted in (None, welcome.node.name) else f": another node is called {wanted!r}"
        self._say("joining", f"joined as {welcome.node.name}{taken}")

    def ready(self) -> None:
        """Everyone listens for this node; the head says what comes next."""

    def message(self, body: Mapping[str, Any]) -> None:
        """The head says something."""
        start = body.get("start")
        if (
            isinstance(start, Mapping)
            and self.node is not None
            and self._ray is None
            and {"gcs", "token"} <= start.keys()
        ):
            self._lives += 1
            self._ray = asyncio.create_task(self._keep_ray(self.node, start))
        elif isinstance(body.get("probe"), int):
            self._begin(self._probe(body))

    def link(self, up: bool, reason: str) -> None:
        """The WebSocket came or went."""
        self._obstacle = None
        if up:
            self._say("up" if self._ray is not None else "joining", "the link is back")
        else:
            self._say("away", f"the link is down ({reason}); trying again")

    async def left(self, reason: str) -> None:
        """The node is lost: its Ray is of no use any more, and in the way of the next one."""
        self._say("rejoining", reason)
        self._cut_off = True
        await self._end_ray()

    def _on_turned_away(self, headers: Mapping[str, str]) -> None:
        """The provider's edge answered in the hub's place: say why, once for each reason."""
        sentence = edge_sentence(headers)
        if sentence is not None and sentence != self._obstacle:
            self._obstacle = sentence
            self._say(self.state, sentence)

    # Ray.

    async def _keep_ray(self, node: Node, start: Mapping[str, Any]) -> None:
        """Run Ray as this node until cancelled; start it again when it ends by itself."""
        for attempt in itertools.count():
            ray = self._ray_process(node, start, attempt)
            try:
                self._say("starting", "starting Ray")
                await ray.start()
                self._agent.message({"ray": "up"})
                cpus = self._options.num_cpus
                self._say("up", f"{node.name} is up with {cpus} CPU{'' if cpus == 1 else 's'}")
                code = await ray.wait()
                reason = f"{ray.last_words()} (exit code {code})"
                await ray.stop()
            except ClusterError as error:
                reason = str(error)
            except asyncio.CancelledError:
                # Cut off from its head Ray would wait for answers that cannot come.
                await ray.stop(0.0) if self._cut_off else await ray.stop()
                raise
            self._agent.message({"ray": "down", "reason": reason})
            self._say("starting", f"Ray ended: {reason}")
            await asyncio.sleep(min(RESTART_S * 2**attempt, LONGEST_RESTART_S))

    def _ray_process(self, node: Node, start: Mapping[str, Any], attempt: int) -> RayProcess:
        folder = self._run_dir / f"ray{self._lives}-{attempt}"
        command = joiner_command(
            RayPorts.of(node.block),
            node_ip=node.address,
            node_name=node.name,
            head_address=str(start["gcs"]),
            num_cpus=self._options.num_cpus,
            num_gpus=self._options.num_gpus or None,
            temp_dir=str(folder),
        )
        secrets = start.get("secrets")
        environment = quick_imports(ray_environment(str(start["token"]), self._environ))
        if isinstance(secrets, Mapping):
            environment |= {str(name): str(value) for name, value in secrets.items()}
        environment[SIGNS_VARIABLE] = str(self.signs)
        # What this machine's owner chose for it goes before what the head sent.
        environment |= {name: self._environ[name] for name in self._options.secrets}
        return RayProcess(command, environment, ports=RayPorts.of(node.block), temp_dir=folder)

    async def _end_ray(self) -> None:
        ray, self._ray = self._ray, None
        if ray is not None:
            ray.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ray

    async def _probe(self, body: Mapping[str, Any]) -> None:
        """Dial what the head asks for and say what failed."""
        targets = pairs(body.get("targets"))
        codes = await asyncio.gather(*(self._agent.probe(node, port) for node, port in targets))
        failed = [list(target) for target, code in zip(targets, codes, strict=True) if code is not None]
        self._agent.message({"probed": body["probe"], "failed": failed})

    async def _stop(self) -> None:
        await self._end_ray()
        self._agent.leave()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        chore = asyncio.create_task(work)
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    def _say(self, state: str, text: str) -> None:
        self.state = state
        log.info("%s", text)
        self._changed(state, text)
