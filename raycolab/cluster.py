"""The cluster as a kernel or a script sees it: start a head, attach to it, join one. Thin: the work is a supervisor's.

A head or joiner started here is a process of its own, detached from this one: an interrupted, busy or restarted kernel
disturbs nothing, and running the cell again finds it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from raycolab import colab
from raycolab.errors import ClusterError, Detached, NoHeadError, RaycolabError, UsageError
from raycolab.examples import installed_source, joiner_cell
from raycolab.files import read_text, typed_path, write_line, write_private
from raycolab.joining import Joiner
from raycolab.node.api import Facts, Problem, Remove, Request, Shutdown, Status
from raycolab.node.data_dir import DataDir
from raycolab.node.launch import ADDRESS_VARIABLE, Task, cpu_count, gpu_count, start_detached
from raycolab.node.ray_command import check_labels, check_resources
from raycolab.node.rpc import Client, Place
from tunnel.address import JoinAddress
from tunnel.errors import AddressError
from tunnel.messages import MAX_NAME
from tunnel.nodes import HUB, address_of

__all__ = ["Head", "Way", "attach", "check_capacity", "join", "joiner_options", "leave", "read_address", "start_head"]

A = TypeVar("A")

START_S = 180.0  # a head: Ray's processes on a cold disk take most of it
POLL_S = 0.3
LONGEST_ADDRESS_FILE = 100_000  # bytes, whatever else was pasted into it
OLD_OUTPUTS = (
    "Before you share this notebook: a page that was loaded again still shows the join address in an old output. If you"
    " see one, clear all outputs (Edit menu)."
)

HEAD_ENDED = "The head ended before it answered: start it again; its log says why."
HEAD_AWAY = (
    "The head was not reached through the mesh: it has ended, or the link of this machine is down, which comes back by"
    " itself; try again in a few seconds."
)
QUIET = (
    "Connected to Ray. What tasks print stays on their nodes; connect_ray(log_to_driver=True) shows it here, by way of"
    " the tunnel."
)

_WAYS: dict[Path, Way] = {}  # of this process


class Way:
    """How the head of a data directory is reached from this machine: the head's own, or one that has joined."""

    def __init__(self, data_dir: DataDir) -> None:
        self.data_dir = data_dir
        self.client = Client(lambda: self.look().place)
        self.is_driver = False  # this process, of the cluster's Ray

    @classmethod
    def of(cls, data_dir: DataDir) -> Way:
        """The one of this process, whose connections are kept."""
        return _WAYS.setdefault(data_dir.path, cls(data_dir))

    def look(self) -> Here:
        """Where the head is, and which node this machine is; NoHeadError when there is none."""
        if (head := self.data_dir.read_head()) is not None:
            return Here(Place(head.control, HEAD_ENDED), "head", address_of(HUB))
        if (joined := self.data_dir.read_joined()) is not None:
            return Here(Place(joined.control, HEAD_AWAY, joined.grace_s), joined.node, joined.address)
        raise NoHeadError(
            f"No head is running with the data directory {self.data_dir.path}: start one with `raycolab head` or "
            f"raycolab.start_head(), or give the --data-dir of the one that runs."
        )


@dataclass(frozen=True, slots=True)
class Here:
    """This machine as a node of a cluster."""

    place: Place  # of the head
    node: str
    address: str  # 127.77.0.k


class Head:
    """The running cluster; make one with `start_head` or `attach`."""

    def __init__(self, data_dir: DataDir) -> None:
        self.data_dir = data_dir
        self._way = Way.of(data_dir)
        self.join_address = self.ask(Facts()).join_address

    def ask(self, request: Request[A]) -> A:
        """Ask the head; raises the error it answers with, NoHeadError when it is gone."""
        return self._way.client.ask(request)

    def status(self) -> dict[str, Any]:
        """What `raycolab status --json` prints: {"nodes": [...], "sweeps": [...]}."""
        return self.ask(Status())

    def nodes(self) -> list[dict[str, Any]]:
        """Every node: name, state, cpus, gpus, trial, rtt_ms (milliseconds), bytes_sent, bytes_received, warning."""
        nodes: list[dict[str, Any]] = self.status()["nodes"]
        return nodes

    def wait_for_joiners(self, count: int, timeout: float = 600) -> list[str]:
        """The joiners that are up, once there are `count` of them or `timeout` seconds have passed; never raises."""
        deadline = time.monotonic() + timeout
        present: list[str] = []
        while True:
            with contextlib.suppress(ClusterError):
                present = [node["name"] for node in self.nodes()[1:] if node["state"] == "up"]
            if len(present) >= count or time.monotonic() >= deadline:
                return present
            time.sleep(POLL_S)

    def remove(self, name: str) -> None:
        """Send a joiner away; what it was computing goes back in the queue. UnknownNodeError names the mistake."""
        self.ask(Remove(name))

    def connect_ray(
        self,
        *,
        runtime_env: Mapping[str, Any] | None = None,
        namespace: str = "raycolab",
        log_to_driver: bool = False,
    ) -> Any:
        """Make plain Ray work in this process: `@ray.remote` then runs on every node. Returns Ray's context.

        Programs started from here join in by `ray.init()` alone. A module that lies beside the program is found on
        other nodes with `runtime_env={"working_dir": "."}`. What tasks print stays where they run, unless
        `log_to_driver` brings it here, through the tunnel. Raises UsageError, ClusterError.
        """
        from raycolab import plain_ray

        node_ip = self._way.look().address
        context = plain_ray.connect(
            self.ask(Facts()), node_ip, runtime_env=runtime_env, namespace=namespace, log_to_driver=log_to_driver
        )
        if not (log_to_driver or self._way.is_driver):
            write_line(sys.stderr, QUIET)
        self._way.is_driver = True
        return context

    def write_environment(self) -> Path:
        """Write the variables with which a bare `ray.init()` joins in, for a shell; returns the file, of mode 0600."""
        from raycolab.plain_ray import shell_exports

        path = self.data_dir.path / "ray.env"
        try:
            write_private(path, shell_exports(self.ask(Facts())))
        except OSError as error:
            raise ClusterError(
                f"{path} cannot be written ({error.strerror}): make room for it, and try again."
            ) from error
        return path

    def shutdown(self) -> None:
        """End the cluster: every joiner, Ray, the tunnel. The database stays."""
        from raycolab.view.live import head_view
        from raycolab.view.output import in_notebook

        if self._way.is_driver:  # Ray ends a process that has lost its cluster, a kernel too
            from raycolab import plain_ray

            plain_ray.disconnect()
            self._way.is_driver = False
        with contextlib.suppress(NoHeadError):
            self.ask(Shutdown())
        head_view(str(self.data_dir.path)).end()
        if in_notebook():
            _say(OLD_OUTPUTS)
        deadline = time.monotonic() + START_S
        while _is_taken(self.data_dir):
            if time.monotonic() > deadline:
                raise ClusterError(f"The head has not ended within {START_S:g} s: {_killing(self.data_dir)} ends it.")
            time.sleep(POLL_S)

    def __repr__(self) -> str:
        return f"<head with the data directory {self.data_dir.path}>"

    def _look(self) -> tuple[Mapping[str, Any], str]:
        return self.status(), self.ask(Facts()).join_address

    def _repr_html_(self) -> str:
        from raycolab.view.panels import head_panel

        try:
            return head_panel(*self._look())
        except RaycolabError:
            return head_panel(None, None)

    def _ipython_display_(self) -> None:
        """Show the panel, kept true until the head has ended; on a terminal it is the `repr`."""
        from raycolab.view.live import head_view
        from raycolab.view.output import in_notebook

        try:
            if in_notebook():
                head_view(str(self.data_dir.path)).show(self._look, joiner_cell)
                return
        except RaycolabError as error:
            _say(str(error))
        _say(repr(self))


def start_head(
    provider: str = "auto",
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    store: str | None = None,
    secrets: Sequence[str] = (),
    new_address: bool = False,
    listen: str | None = None,
    url: str | None = None,
) -> Head:
    """Start this machine as the head, or attach to the head that already runs here, and print the join address.

    `provider` is ngrok, direct, unix or auto; `store` a SQLAlchemy URL; `secrets` names of environment variables or of
    Colab's secrets, read once, that trials on all nodes get as environment variables; `new_address` makes earlier join
    addresses worthless. `listen` is where joiners are accepted, HOST:PORT or the path of a socket, and `url` what they
    dial, where it differs, both as for `raycolab head`. Raises UsageError, PortTakenError, ClusterError.
    """
    chosen = DataDir.chosen(data_dir, os.environ)
    cpus, gpus = check_capacity(num_cpus, num_gpus)
    options = {
        "provider": provider,
        "num_cpus": cpus,
        "num_gpus": gpus,
        "store": store,
        "secrets": list(secrets),
        "new_address": new_address,
        "listen": listen,
        "url": url,
    }
    try:
        if not _await_other(chosen):
            _refuse_head_on_joiner(chosen)
            taken = colab.credentials(provider, secrets, os.environ)
            if alone := colab.alone_text(provider, os.environ, taken):
                _say(alone)
            _say("Starting the head; this takes about ten seconds.")
            _start_head(chosen, options, {**os.environ, **taken})
    except KeyboardInterrupt:
        raise Detached("Detached: the head goes on starting. Run this again to see it.") from None
    head = attach(chosen.path)
    _show(head)
    if colab.is_colab(os.environ) and (drive := colab.drive_folder()) is not None:
        _say(colab.tabs_text(colab.joiner_tabs(drive, head.join_address, installed_source())))
    return head


def attach(data_dir: str | os.PathLike[str] | None = None) -> Head:
    """The running cluster, from any process of any node of it; NoHeadError when there is none.

    It is the head of this data directory, or that of the joiner which runs with it.
    """
    return Head(DataDir.chosen(data_dir, os.environ))


def join(
    address: str | None = None,
    *,
    name: str | None = None,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    resources: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    secrets: Sequence[str] = (),
    release_runtime: bool = False,
    block: bool = True,
    data_dir: str | os.PathLike[str] | None = None,
) -> None:
    """Join this machine to a head and stay until the head ends it, showing what happens.

    Interrupting only detaches: the joiner goes on, `raycolab.leave()` ends it, and running this again shows it again.
    With `block=False` it returns as soon as this machine is a node; with `num_cpus=0` no trial is sent here, which is
    for a notebook that pulls its trials by itself. `resources` and `labels` are this node's own, for plain Ray:
    `@ray.remote(resources={"disk": 1})` then runs where somebody joined with `resources={"disk": 4}`.
    `address` is what the head printed, or RAYCOLAB_JOIN_ADDRESS; `secrets` are names of environment variables or of
    Colab's secrets, read once, that trials on this machine get; with `release_runtime` Colab gets its VM back once
    this call or `leave` has seen the joiner end. Raises UsageError, JoinError, ClusterError.
    """
    if release_runtime and not colab.is_colab(os.environ):
        raise UsageError("release_runtime gives a Colab VM back, and this machine is none: leave it out.")
    chosen = DataDir.chosen(data_dir, os.environ)
    joiner = Joiner.running(chosen)
    if joiner is None and colab.is_colab(os.environ) and chosen.read_head() is not None:
        raise UsageError(colab.HEAD_HERE)
    notebook = colab.this_notebook(os.environ)
    if joiner is None:
        parsed = read_address(address or os.environ.get(ADDRESS_VARIABLE, ""))
        options = joiner_options(name, num_cpus, num_gpus, resources or {}, labels or {})
        environ = {**os.environ, **colab.take_secrets(secrets, os.environ)}
        joiner = Joiner.start(chosen, {**options, "secrets": list(secrets)}, parsed, environ)
        notes = []
    elif colab.is_colab(os.environ) and not colab.same_notebook(joiner.record.notebook, notebook):
        raise UsageError(colab.ONE_VM_PER_FILE)
    else:
        notes = ["This machine is a joiner already; raycolab.leave() ends that. What happened so far:"]
        notes += [colab.OTHER_TAB] if colab.is_colab(os.environ) else []
    joiner.save(
        notebook=notebook or joiner.record.notebook,
        release_runtime=release_runtime or joiner.record.release_runtime,
    )
    try:
        if joiner.watch(notes, until_up=not block):
            return
    except RaycolabError:
        if joiner.was_up():
            _release(joiner)
        raise
    _release(joiner)


def leave(data_dir: str | os.PathLike[str] | None = None) -> None:
    """End the joiner that `join` started on this machine; nothing happens when there is none."""
    joiner = Joiner.last(DataDir.chosen(data_dir, os.environ))
    is_joiner = joiner is not None and joiner.is_alive()
    if joiner is not None:
        joiner.end()  # one that has ended by itself may still look alive in a cell that was stopped
    _say("This machine has left the cluster." if is_joiner else "This machine is no joiner: there is nothing to leave.")
    if joiner is not None and is_joiner:
        _release(joiner)


def read_address(text: str) -> JoinAddress:
    """The join address in what a person pasted, or in the file of `@FILE`; UsageError says how it is damaged."""
    try:
        return JoinAddress.parse(_read_address_file(text[1:]) if text.startswith("@") else text)
    except AddressError as error:
        raise UsageError(str(error)) from error


def joiner_options(
    name: str | None,
    num_cpus: int | None,
    num_gpus: int | None,
    resources: Mapping[str, float],
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """What a person said of a node, as its joiner takes it; UsageError for what no node can be."""
    if name is not None and not (name.isprintable() and name.strip() and len(name) <= MAX_NAME):
        raise UsageError(f"A node cannot be called {name!r}: give one printable line of at most {MAX_NAME} characters.")
    check_resources(resources)
    check_labels(labels)
    cpus, gpus = check_capacity(num_cpus, num_gpus, fewest=0)
    own = {"resources": dict(resources), "labels": dict(labels)}
    return {"name": name, "num_cpus": cpus, "num_gpus": gpus, **own}


def check_capacity(num_cpus: int | None, num_gpus: int | None, *, fewest: int = 1) -> tuple[int, int]:
    """CPUs and GPUs to give to the cluster; what is not said is what the machine has. UsageError for nonsense.

    A node without CPUs, where `fewest` allows it, gives no GPUs either unless they are asked for.
    """
    if num_cpus is not None and not fewest <= num_cpus <= 256:
        raise UsageError(
            f"num_cpus is {num_cpus}: give a number from {fewest} to 256, or leave it out for all of them."
        )
    if num_gpus is not None and not 0 <= num_gpus <= 64:
        raise UsageError(f"num_gpus is {num_gpus}: give a number from 0 to 64, or leave it out for all of them.")
    if num_gpus is None:
        num_gpus = 0 if num_cpus == 0 else gpu_count()
    return (cpu_count() if num_cpus is None else num_cpus), num_gpus


def _read_address_file(name: str) -> str:
    if not name:
        raise UsageError("@ stands before the name of a file with the join address: write @FILE.")
    path = typed_path(name, "The join address file")
    try:
        return read_text(path, LONGEST_ADDRESS_FILE)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"The join address file {path} cannot be read ({reason}): name the head's own.") from error


def _say(text: str) -> None:
    """For the person who runs the cell, who copies from it what is to be pasted."""
    print(text, flush=True)  # noqa: T201


def _refuse_head_on_joiner(data_dir: DataDir) -> None:
    if Joiner.running(data_dir) is not None and colab.is_colab(os.environ):
        raise UsageError(colab.JOINER_HERE)
    if (joined := data_dir.read_joined()) is not None:
        raise UsageError(
            f"This machine is part of a cluster already, as {joined.node}: raycolab.attach() gives its head, and"
            " raycolab.leave() leaves it. For a head of its own give start_head another data_dir."
        )


def _await_other(data_dir: DataDir) -> bool:
    """Whether a head runs with this data directory; one that is just starting or ending is waited for."""
    deadline = time.monotonic() + START_S
    while data_dir.read_head() is None:
        if not _is_taken(data_dir):
            return False
        if time.monotonic() > deadline:
            raise ClusterError(
                f"Another head holds the data directory {data_dir.path} and does not answer: {_killing(data_dir)} ends"
                " it; or give this one another data_dir."
            )
        time.sleep(POLL_S)
    return True


def _killing(data_dir: DataDir) -> str:
    """What to paste for a head that nothing else ends; its guard then ends the rest."""
    return f"`kill -9 $(cat {shlex.quote(str(data_dir.path / 'lock'))})`"


def _is_taken(data_dir: DataDir) -> bool:
    try:
        with data_dir.lock():
            return False
    except ClusterError:
        return True


def _start_head(data_dir: DataDir, options: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Start a head and return when it says that it is up; raises what it says otherwise."""
    log = data_dir.path / "head.log"
    reading, writing = os.pipe()
    with open(reading, "rb") as events:
        try:
            start_detached(Task("head", str(data_dir.path), options, "json", str(log)), environ, writing)
        finally:
            os.close(writing)
        if not select.select([events], [], [], START_S)[0]:
            raise ClusterError(
                f"The head has not come up within {START_S:g} s: {log} says how far it is. Run this again to go on"
                " waiting for it."
            )
        line = events.readline()
    if not line:
        raise ClusterError(f"The head ended without a word: {log} says how far it came. Start it again.")
    event = json.loads(line)
    if event["event"] == "failed":
        raise msgspec.convert(event, Problem).as_error()
    for note in event.get("notes", ()):
        _say(note)


def _show(head: Head) -> None:
    """Its panel in a notebook, else the address and what to do with it."""
    from raycolab.view.output import in_notebook
    from raycolab.view.panels import next_steps

    if in_notebook():
        head._ipython_display_()
    else:
        _say(next_steps(head.join_address, joiner_cell(head.join_address)))


def _release(joiner: Joiner) -> None:
    """Give the VM of a joiner that has ended back to Colab, where that was asked for."""
    if joiner.record.release_runtime:
        _say("Giving this VM back to Colab.")
        colab.release_runtime()
