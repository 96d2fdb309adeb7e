"""The joiner that runs on this machine, as processes that come later find it: its record, and what it has said so far.

The record is `joiner.json` in the data directory: the guard's process id, its run directory, the files of events and of
the log, and what `raycolab.join` keeps with them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from raycolab.errors import ClusterError, JoinError, UsageError
from raycolab.node.data_dir import DataDir
from raycolab.node.launch import ADDRESS_VARIABLE, Task, start_detached
from raycolab.node.rpc import ControlClient, error_from
from tunnel.address import JoinAddress

if TYPE_CHECKING:
    from raycolab.view.live import JoinerSurface

__all__ = [
    "ask_joiner",
    "end_joiner",
    "installable",
    "installed_source",
    "is_alive",
    "is_detached",
    "joiner_cell",
    "last_joiner",
    "past_events",
    "running_joiner",
    "show_joiner",
    "start_joiner",
    "was_up",
    "write_record",
]

ASK_S = 2.0  # for the joiner's process on this machine
POLL_S = 0.3
EXEC_S = 0.5  # a process that has no command line for longer is none
JOINER_RECORD = "joiner.json"


def start_joiner(
    data_dir: DataDir, options: Mapping[str, Any], address: JoinAddress, environ: Mapping[str, str]
) -> dict[str, Any]:
    """Start a joiner whose events go to a file; returns what of it later calls find in its record."""
    data_dir.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    events, log = data_dir.path / "joiner.events", data_dir.path / "joiner.log"
    events.unlink(missing_ok=True)
    events.touch(mode=0o600)
    task = Task("joiner", str(data_dir.path), options, "json", str(log))
    with events.open("ab") as output:
        pid, run_dir = start_detached(task, {**environ, ADDRESS_VARIABLE: address.text}, output.fileno())
    return {"pid": pid, "run_dir": str(run_dir), "events": str(events), "log": str(log)}


def write_record(data_dir: DataDir, record: Mapping[str, Any]) -> None:
    """Let later calls find the joiner."""
    (data_dir.path / JOINER_RECORD).write_text(json.dumps(record))


def running_joiner(data_dir: DataDir) -> dict[str, Any] | None:
    """The record of the joiner that runs with this data directory, None when there is none."""
    record = last_joiner(data_dir)
    return record if record is not None and is_alive(record) else None


def last_joiner(data_dir: DataDir) -> dict[str, Any] | None:
    """The record of the joiner that ran last with this data directory, or runs; None when there was none."""
    try:
        record: dict[str, Any] = json.loads((data_dir.path / JOINER_RECORD).read_text())
    except (OSError, ValueError):
        return None
    return record


def ask_joiner(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Name, state and trial, as the joiner's process says; {} when it does not."""
    try:
        return ControlClient(f"{record['run_dir']}/control").request("state", timeout_s=ASK_S)
    except ClusterError:
        return {}


def is_alive(record: Mapping[str, Any]) -> bool:
    """Whether the guard of a joiner still runs; its run directory's name tells it from a later process of that id."""
    deadline = time.monotonic() + EXEC_S
    while True:
        try:
            words = Path(f"/proc/{record['pid']}/cmdline").read_text()
        except OSError:
            return False
        # A process that is just executing has none yet; one that ended and was not reaped has none any more.
        if words or time.monotonic() > deadline:
            return str(record["run_dir"]) in words
        time.sleep(0.02)


def show_joiner(record: Mapping[str, Any], surface: JoinerSurface) -> None:
    """Show a joiner's events until it ends; raises what it failed with."""
    last: dict[str, Any] = {"event": "starting"}
    text = ""
    with open(record["events"]) as events:
        alive = True
        while alive:
            alive = is_alive(record)
            *lines, text = (text + events.read()).split("\n")
            for line in lines:
                last = json.loads(line)
                surface.happened(last)
            if alive:
                surface.look()
                time.sleep(POLL_S)
    if last["event"] == "failed":
        error = error_from(last)
        raise error if isinstance(error, (ClusterError, UsageError)) else JoinError(str(error))
    if last["event"] != "ended":
        raise ClusterError(f"The joiner ended without a word: {record['log']} says how far it came. Join again.")


def past_events(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a joiner has said so far."""
    try:
        with open(record["events"]) as events:
            return [json.loads(line) for line in events if line.endswith("\n")]
    except OSError:
        return []


def was_up(record: Mapping[str, Any]) -> bool:
    """Whether a joiner was ever part of a cluster."""
    return any(event["event"] == "up" for event in past_events(record))


LEAVE_S = 30.0
POLL_S_JOINER_WATCH = 0.3
DETACHED = "Detached: this machine is still part of the cluster. Running this again shows it; raycolab.leave() leaves."


def is_detached(record: Mapping[str, Any], notes: Sequence[str]) -> bool:
    """Show the joiner until it ends, or until somebody stops watching; raises what it failed with."""
    from raycolab.view.live import joiner_surface

    surface = joiner_surface(record.get("head", ""), lambda: ask_joiner(record), record["run_dir"])
    with contextlib.closing(surface):
        if not notes:
            surface.greet("Joining. Stop (Ctrl-C) only detaches this cell; raycolab.leave() leaves the cluster.")
        for text in notes:
            surface.say(text)
        try:
            show_joiner(record, surface)
        except KeyboardInterrupt:
            surface.detach(DETACHED)
            return True
    return False


def end_joiner(record: Mapping[str, Any]) -> None:
    """End the joiner's process if it runs, and let every panel of it say so; ClusterError when it does not end."""
    from raycolab.view.live import show_ended

    name = ask_joiner(record).get("name")
    if is_alive(record):
        os.kill(record["pid"], signal.SIGTERM)
    deadline = time.monotonic() + LEAVE_S
    while is_alive(record) and time.monotonic() < deadline:
        time.sleep(POLL_S_JOINER_WATCH)
    if is_alive(record):
        raise ClusterError(
            f"The joiner has not ended within {LEAVE_S:g} s: `kill -9 -{record['pid']}` ends it, and all that it"
            f" started; {record['log']} says how far it came."
        )
    show_ended(record.get("head", ""), name, past_events(record), record["run_dir"])


_NAME = "raycolab"
_ON_DISK = "# This tab must have that path too, on its Drive or on a disk it shares with the head.\n"


def joiner_cell(join_address: str) -> str:
    """A whole cell: the head's raycolab and its very Ray, then `raycolab.join`."""
    source = installed_source()
    note = _ON_DISK if source.startswith("/") else ""
    return (
        f'{note}%pip install --quiet "{source}" "ray=={metadata.version("ray")}"\n'
        "import raycolab\n\n"
        f'raycolab.join("{join_address}")\n'
    )


@cache
def installed_source() -> str:
    """What pip would have to be given to install the raycolab that runs here."""
    package = metadata.distribution(_NAME)
    return installable(package.read_text("direct_url.json"), package.version)


def installable(direct_url: str | None, version: str) -> str:
    """A git URL at its commit, the URL of a wheel, or a path, as `direct_url` has it; without it the version's name.

    pip keeps no password in a direct_url: a private repository's URL comes without it.
    """
    if direct_url is None:
        return f"{_NAME}=={version}"
    written = json.loads(direct_url)
    url = str(written["url"])
    if "vcs_info" in written:
        url = f"{written['vcs_info']['vcs']}+{url}@{written['vcs_info']['commit_id']}"
    elif urlsplit(url).scheme == "file":
        return unquote(urlsplit(url).path)
    return f"{url}#subdirectory={written['subdirectory']}" if "subdirectory" in written else url
