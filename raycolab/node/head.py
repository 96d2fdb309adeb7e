"""The head's long-lived process: hub, provider, Ray's head node and the sweep engine, in one event loop.

Order of start: the hub listens, the provider makes it reachable, Ray's head comes up, the engine starts, and then the
join address is written. Joiners that come earlier (after a restart of the head) wait for `start` as all others do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from raycolab import providers
from raycolab.engine import Starts
from raycolab.errors import ClusterError, RaycolabError, UnknownNodeError, UsageError
from raycolab.files import write_private
from raycolab.node import api
from raycolab.node.allowance import Allowance
from raycolab.node.data_dir import DataDir, HeadRecord, Identity, MonthTraffic
from raycolab.node.lifeline import exec_with_lifeline
from raycolab.node.mesh_watch import MeshWatch, Reachable
from raycolab.node.ray_command import RayPorts, ports_needed, ray_environment, required_ports, start_command
from raycolab.node.ray_process import RayProcess
from raycolab.node.rpc import Channel, EngineLine, Server
from raycolab.node.snapshots import Snapshots
from raycolab.store import open_store, sqlite_url
from raycolab.summary import ClusterStatus, NodeStatus, SnapshotStatus, TrafficStatus
from raycolab.trials import AT_REST, SweepState
from tunnel.address import JoinAddress
from tunnel.errors import IdentityError, PortTaken
from tunnel.hub import GRACE_S, Hub
from tunnel.listen import Listen
from tunnel.messages import MAX_GRACE_S
from tunnel.secure import HubIdentity

__all__ = ["HeadOptions", "HeadSupervisor", "cluster_status", "engine_failure", "write_address_file"]

GRACE_VARIABLE = "RAYCOLAB_GRACE_S"  # for how long a joiner may be away before its node is given up
REOPEN_S = (0.5, 2.0, 5.0, 10.0, 30.0)  # waits before each try to mend a lost provider
ENGINE_START_S = 60.0
ENGINE_END_S = 10.0  # to write what it knows, before it is killed with Ray
COUNT_S = 30.0  # between two looks at what went through the tunnel

log = logging.getLogger("raycolab.head")


class HeadOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `raycolab head` or `start_head` was asked for; everything was checked by whoever made it."""

    provider: str = "auto"
    listen: str | None = None
    url: str | None = None
    num_cpus: int = 1
    num_gpus: int = 0
    store: str | None = None  # SQLAlchemy URL, None: SQLite in the data directory
    join_address_file: str | None = None
    new_address: bool = False
    secrets: tuple[str, ...] = ()  # names of environment variables for trials


class HeadSupervisor:
    """Runs until `stop` is called or the provider and Ray cannot go on."""

    def __init__(
        self,
        options: HeadOptions,
        data_dir: DataDir,
        run_dir: Path,
        environ: Mapping[str, str],
        snapshots: Snapshots | None = None,
    ) -> None:
        self.join_address = ""
        self.stopping = asyncio.Event()
        self._options = options
        self._data_dir = data_dir
        self._run_dir = run_dir
        self._environ = environ
        self._snapshots = snapshots
        self._store_url = options.store or sqlite_url(data_dir.database_path)
        self._engine = EngineLine(self._why_no_engine)
        self._progress: dict[str, Any] = {"sweeps": [], "trials": {}}
        stored = None if options.new_address else data_dir.load(Identity)
        self._identity, self._token = self._take_identity(stored)
        self._remembered = {} if stored is None else stored.provider
        self._provider = providers.choose_provider(
            options.provider,
            listen=options.listen,
            url=options.url,
            environ=environ,
            remembered=self._remembered,
            run_dir=run_dir,
        )
        self._allowance = Allowance(self._provider.name, self._provider.free_month_bytes, data_dir.load(MonthTraffic))
        self._watch = MeshWatch(self._token, self._take_secrets(), self._on_node_lost)
        self._hub = Hub(
            self._identity,
            self._watch,
            ports=ports_needed(options.num_cpus),
            name="head",
            prefix="joiner",
            grace_s=_grace_s(environ),
            services={api.API_PORT: run_dir / "control"},
        )
        self._watch.hub = self._hub
        self._ports = RayPorts.of(self._hub.node.block)
        self._control_path = run_dir / "control"
        self._control = Server(self._control_path, self._answer, self._hear)
        self._ray = self._ray_process()

    def stop(self) -> None:
        """Begin an orderly end; `run` returns soon."""
        self.stopping.set()

    async def run(self, joinable: Callable[[str], None]) -> None:
        """Be the head until told to stop; `joinable` gets the join address once joiners can come.

        Raises RaycolabError when the head cannot start, or when it ends for another reason than `stop`.
        """
        try:
            await _first_to_end(self.stopping.wait(), self._start())
            if not self.stopping.is_set():
                joinable(self.join_address)
                await _first_to_end(
                    self.stopping.wait(), self._stay_reachable(), self._until_ray_ends(), self._count_traffic()
                )
        finally:
            await self._end()

    # Starting.

    async def _start(self) -> None:
        with await asyncio.to_thread(open_store, self._store_url):
            pass  # what is wrong with it is told before anything is started
        self._bound = await self._listen()
        url = await self._provider.open(self._bound)
        remembered = {**self._remembered, **self._provider.remember()}
        self._data_dir.save(Identity(self._identity.to_pem().decode(), self._token, remembered))
        await self._control.start()
        await self._ray.start()
        self._watch.head_is_up(
            Reachable(self._hub.node.id, self._hub.node.name, required_ports(self._ports, head=True))
        )
        await self._start_engine()
        self._data_dir.save(
            HeadRecord(os.getpid(), str(self._control_path), started_at=time.time(), store=self._store_url)
        )
        self._set_address(url)

    def _set_address(self, url: str) -> None:
        """Joiners reach the hub at `url`: say so where people and joiners look."""
        self.join_address = JoinAddress(url, self._identity.pin, self._identity.secret).text
        if self._options.join_address_file is not None:
            write_address_file(Path(self._options.join_address_file), self.join_address)
        if self._snapshots is not None:
            self._snapshots.keep(self.join_address)

    def _take_identity(self, stored: Identity | None) -> tuple[HubIdentity, str]:
        """The head's key and secret and Ray's token, kept so that the join address outlives the head."""
        if stored is None:
            return HubIdentity.create(time.time()), secrets.token_urlsafe(32)
        try:
            return HubIdentity.from_pem(stored.hub.encode()), stored.ray_token
        except IdentityError as error:
            raise self._data_dir.damaged(Identity.FILE) from error

    def _take_secrets(self) -> dict[str, str]:
        missing = [name for name in self._options.secrets if name not in self._environ]
        if missing:
            raise UsageError(
                f"The secret {missing[0]!r} is not in the head's environment: set it, then start the head."
            )
        return {name: self._environ[name] for name in self._options.secrets}

    async def _listen(self) -> Listen:
        wanted = await self._provider.prepare()
        try:
            return await self._hub.start(wanted)
        except (OSError, PortTaken) as error:
            cause = error.__cause__ if isinstance(error, PortTaken) else error
            if isinstance(cause, OSError):
                raise providers.bind_failure(wanted, cause) from error
            raise

    def _ray_process(self) -> RayProcess:
        command = start_command(
            self._ports,
            node_ip=self._hub.node.address,
            node_name=self._hub.node.name,
            head_address=None,
            num_cpus=self._options.num_cpus,
            num_gpus=self._options.num_gpus or None,
            temp_dir=str(self._run_dir / "ray"),
        )
        return RayProcess(command, self._ray_environment, ports=self._ports, temp_dir=self._run_dir / "ray")

    @property
    def _ray_address(self) -> str:
        return f"{self._hub.node.address}:{self._ports.gcs}"

    @property
    def _ray_environment(self) -> dict[str, str]:
        return ray_environment(self._token, self._environ, self._ports)

    async def _start_engine(self) -> None:
        """Have the engine's actor made; it then dials the control socket by itself."""
        command = exec_with_lifeline(
            [
                *(sys.executable, "-P", "-m", "raycolab.engine"),
                *("--ray-address", self._ray_address, "--node-ip", self._hub.node.address),
                *("--control", str(self._control_path), "--lock-dir", str(self._run_dir)),
                *("--owner", self._identity.pin.hex()[:16], "--data-dir", str(self._data_dir.path)),
            ]
        )
        environment = {**self._ray_environment, "RAYCOLAB_STORE_URL": self._store_url}
        log_path = self._run_dir / "engine.log"
        log_path.touch(mode=0o600)
        with log_path.open("ab") as output:
            # Ray puts the current directory of who makes the actor on the import path of every process of its job.
            process = await asyncio.create_subprocess_exec(
                *command, env=environment, cwd=self._run_dir, stdout=output, stderr=output
            )
        try:
            async with asyncio.timeout(ENGINE_START_S):
                if await process.wait() != 0:
                    raise ClusterError(engine_failure(log_path))
                await self._engine.up.wait()
        except TimeoutError as error:
            raise ClusterError(engine_failure(log_path)) from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    # While it runs.

    async def _until_ray_ends(self) -> None:
        await self._ray.wait()
        raise ClusterError(f"Ray's head process ended ({self._ray.last_words()}). Start the head again.")

    async def _stay_reachable(self) -> None:
        """Open the provider again whenever it is lost; raises what it says when that fails for too long."""
        while True:
            log.warning("the provider is lost: %s", await self._provider.wait_lost())
            for delay_s in REOPEN_S:
                await asyncio.sleep(delay_s)
                try:
                    self._set_address(await self._provider.open(self._bound))
                    log.info("the provider is back")
                    break
                except RaycolabError as error:
                    if delay_s == REOPEN_S[-1]:
                        raise
                    log.warning("not yet: %s", error)

    async def _count_traffic(self) -> None:
        """Keep the month's bytes where the next head finds them, and warn before the allowance is used up."""
        while True:
            await asyncio.sleep(COUNT_S)
            self._save_traffic()
            if (warning := self._allowance.new_warning()) is not None:
                log.warning("%s", warning)

    def _save_traffic(self) -> None:
        self._allowance.count(self._hub.traffic.total, time.time())
        try:
            self._data_dir.save(self._allowance.month)
        except RaycolabError as error:  # a full disk: the count is the least of it
            log.warning("the month's traffic was not saved: %s", error)

    def _traffic(self) -> TrafficStatus:
        """All bytes of this head, and the month's."""
        traffic = self._hub.traffic
        self._allowance.count(traffic.total, time.time())
        control = traffic.control_sent + traffic.control_received
        return TrafficStatus(bytes=traffic.total, control_bytes=control, **self._allowance.status())

    def _on_node_lost(self, name: str) -> None:
        self._engine.tell(api.NodeLost(name))

    def _hear(self, body: bytes, channel: Channel) -> None:
        if self._engine.is_heard(channel):
            told: api.Progress = api.decode(body, api.Progress)
            self._on_progress({"sweeps": told.sweeps, "trials": told.trials, "setups": told.setups})

    def _why_no_engine(self) -> str | None:
        """What is said once the engine has ended so often that it is not started again."""
        if not Starts(self._run_dir).are_too_many():
            return None
        return (
            f"The sweep engine has ended again and again and is not started any more: {self._run_dir}/engine.log says"
            " why. End the head with `raycolab down`, mend that, and start it again: what is finished stays."
        )

    def _on_progress(self, progress: Mapping[str, Any]) -> None:
        self._progress = dict(progress)
        self._watch.show_trials(progress.get("trials", {}))
        if self._snapshots is not None:
            self._snapshots.on_progress(progress)

    async def _answer(self, body: bytes, channel: Channel) -> bytes:
        """Answer a client: the command line, a kernel, a node's. What is the engine's to answer is passed on."""
        match api.decode_known(body, api.HeadRequest):
            case api.Status():
                snapshots = None if self._snapshots is None else self._snapshots.status()
                return api.encode(cluster_status(self._nodes(), self._shown_progress(), self._traffic(), snapshots))
            case api.Facts():
                return api.encode(api.HeadFacts(self.join_address, self._ray_address, self._token))
            case api.Remove(node=name):
                await self._remove(name)
            case api.Shutdown():
                self.stop()
            case api.EngineIsUp():
                self._engine.connected(channel)
            case _:
                return await self._engine.ask(body)
        return api.encode(None)

    def _shown_progress(self) -> Mapping[str, Any]:
        """What the engine told last; without one whatever it was at work on waits for a person, and says why."""
        if (why := self._why_no_engine()) is None:
            return self._progress
        held = {"state": SweepState.HELD, "sentence": why}
        sweeps = [each if each["state"] in AT_REST else {**each, **held} for each in self._progress["sweeps"]]
        return {"sweeps": sweeps, "trials": {}}

    def _nodes(self) -> list[NodeStatus]:
        head, *joiners = self._watch.nodes(cpus=self._options.num_cpus, gpus=self._options.num_gpus)
        return [msgspec.structs.replace(head, warning=head.warning or self._why_no_engine()), *joiners]

    async def _remove(self, name: str) -> None:
        peer = next((peer for peer in self._hub.peers if peer.node.name == name), None)
        if peer is None:
            raise UnknownNodeError(f"There is no joiner called {name!r}; `raycolab status` lists them.")
        await self._hub.remove(peer.node.id, "the head removed this joiner")

    # The end.

    async def _end(self) -> None:
        """End everything; what fails here must not keep the rest from ending."""
        log.info("shutting down")
        self._save_traffic()
        self._data_dir.clear_head()
        async with contextlib.AsyncExitStack() as stack:
            if self._snapshots is not None:  # last, when nothing is written any more
                stack.push_async_callback(self._snapshots.close)
            stack.push_async_callback(asyncio.to_thread, self._close_store)  # what a killed engine left open
            stack.push_async_callback(self._ray.stop)
            stack.push_async_callback(self._provider.close)
            stack.push_async_callback(self._hub.close, "the head shut down", final=self.stopping.is_set())
            stack.push_async_callback(self._watch.close)
            stack.push_async_callback(self._control.close)
            stack.push_async_callback(self._end_engine)

    async def _end_engine(self) -> None:
        """Have the engine leave everything in order; one that cannot is ended with Ray, as by a crash."""
        if self._engine.up.is_set():
            try:
                async with asyncio.timeout(ENGINE_END_S):
                    await self._engine.ask(api.encode(api.EndEngine()), restart_s=0.0)
            except (RaycolabError, TimeoutError) as error:
                log.warning("the engine did not end in order: %s", error or "it did not answer")

    def _close_store(self) -> None:
        """Leave the database's file whole, so that it alone can be copied."""
        try:
            with open_store(self._store_url) as store:
                pass
            if store.beside is not None:
                log.warning("the newest rows are in %s: copy it with the database", store.beside)
        except RaycolabError as error:
            log.warning("the database was not closed in order: %s", error)


def _grace_s(environ: Mapping[str, str]) -> float:
    """The grace period that was asked for; UsageError for what is none."""
    given = environ.get(GRACE_VARIABLE, "")
    try:
        grace_s = float(given or GRACE_S)
    except ValueError:
        grace_s = math.nan
    if not 0 <= grace_s <= MAX_GRACE_S:
        raise UsageError(f"{GRACE_VARIABLE} is {given!r}: give a number of seconds, or leave it out for {GRACE_S:g}.")
    return grace_s


def engine_failure(log_path: Path) -> str:
    """The sentence for an engine that did not start."""
    lines = log_path.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    said = re.sub(r"^raycolab\.[\w.]+: ", "", lines[-1]).rstrip(".")  # of a traceback, where that is how it ended
    return f"The sweep engine did not start: {said}. Start the head again."


def write_address_file(path: Path, address: str) -> None:
    """Write the join address where somebody asked for it, for this user alone; ClusterError when that fails."""
    try:
        write_private(path, address + "\n")
    except OSError as error:
        raise ClusterError(
            f"The join address cannot be written to {path} ({error.strerror}): mend that, or name another file."
        ) from error


def cluster_status(
    nodes: Iterable[NodeStatus],
    progress: Mapping[str, Any],
    traffic: TrafficStatus,
    snapshots: SnapshotStatus | None,
) -> dict[str, Any]:
    """A ClusterStatus as `status --json` prints it: the mesh's nodes, each with its trial, and the engine's sweeps."""
    trials, setups = progress.get("trials", {}), progress.get("setups", {})
    status = ClusterStatus(
        nodes=[
            msgspec.structs.replace(node, trial=trials.get(node.name), setup=setups.get(node.name)) for node in nodes
        ],
        traffic=traffic,
        snapshots=snapshots,
    )
    return {**msgspec.to_builtins(status), "sweeps": list(progress.get("sweeps", ()))}


async def _first_to_end(*work: Coroutine[Any, Any, object]) -> None:
    """Run all of these until one ends, then end the others; raises what that one raised."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        next(task for task in tasks if task.done()).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
