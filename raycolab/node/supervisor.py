"""`python -m raycolab.node.supervisor RUN_DIR`: the long-lived process of a node, under its guard (see `launch`).

Reads what to do from RUN_DIR/task.json, says on stdout when it is up (a line for people or one JSON object, as asked),
and ends with the contract's exit code; SIGINT (then 130) and SIGTERM end it in order.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from raycolab.errors import ClusterError, RaycolabError
from raycolab.files import crash_report, escape_unencodable
from raycolab.node import api
from raycolab.node.data_dir import DataDir, JoinedRecord
from raycolab.node.head import HeadOptions, HeadSupervisor
from raycolab.node.joiner import JoinerOptions, JoinerSupervisor
from raycolab.node.launch import ADDRESS_VARIABLE, Task, announce, read_task
from raycolab.node.lifeline import die_with_parent, hold_run_dir, remove_run_dir
from raycolab.node.rpc import OTHER_VERSION, Channel, Server
from raycolab.node.snapshots import Snapshots
from raycolab.providers import loopback_note
from tunnel.address import JoinAddress
from tunnel.nodes import Node

__all__ = ["main"]

log = logging.getLogger("raycolab")

_RECEIVED: set[signal.Signals] = set()

Options = TypeVar("Options", HeadOptions, JoinerOptions)


def main(run_dir: Path) -> int:
    """Carry the task out; returns the exit code."""
    guard = os.getppid()
    die_with_parent(guard)
    hold_run_dir(run_dir)
    escape_unencodable()
    try:
        task = read_task(run_dir)
    except RaycolabError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    _log_to(Path(task.log) if task.log else run_dir / "supervisor.log")
    run = _head if task.role == "head" else _joiner
    try:
        _event_loop_run(run(task, run_dir))
    except RaycolabError as error:
        log.error("%s", error)
        announce(task, "failed", **msgspec.to_builtins(api.Problem.of(error)))
        return error.exit_code
    except Exception as error:
        log.exception("unexpected")
        announce(task, "failed", error=crash_report(error), kind="RaycolabError", exit_code=1)
        return 1
    finally:
        if os.getppid() != guard:  # it was killed, and removes nothing any more
            remove_run_dir(run_dir)
    return 130 if signal.SIGINT in _RECEIVED else 0


async def _head(task: Task, run_dir: Path) -> None:
    data_dir = DataDir(task.data_dir)
    options = _options(task.options, HeadOptions)
    with data_dir.lock():
        snapshots = Snapshots.chosen(data_dir, options.store, run_dir, os.environ)
        notes: list[str] = []
        if snapshots is not None:
            restoring = asyncio.create_task(snapshots.restore())
            _on_signals(restoring.cancel)
            try:
                notes = await restoring
            except asyncio.CancelledError:  # a signal ended it before it began
                return
        for note in notes:
            log.info("%s", note)
        head = HeadSupervisor(options, data_dir, run_dir, os.environ, snapshots)
        _on_signals(head.stop)

        def joinable(address: str) -> None:
            note = loopback_note(JoinAddress.parse(address).url)
            announce(task, "up", join_address=address, notes=[*notes, *([note] if note else [])])

        await head.run(joinable)


async def _joiner(task: Task, run_dir: Path) -> None:
    def on_change(state: str, text: str) -> None:
        announce(task, state, text=text, at=time.time())
        if joiner.node is not None:
            _save_joined(DataDir(task.data_dir), joiner, joiner.node)

    address = JoinAddress.parse(os.environ.pop(ADDRESS_VARIABLE, ""))
    joiner = JoinerSupervisor(
        address,
        _options(task.options, JoinerOptions),
        run_dir,
        os.environ,
        on_change,
    )

    async def answer(body: bytes, channel: Channel) -> bytes:
        if api.decode_known(body, api.JoinerState) is None:
            raise ClusterError(OTHER_VERSION)
        name = joiner.node.name if joiner.node else None
        return api.encode(api.JoinerFacts(joiner.state, name, joiner.trial))

    control = Server(run_dir / "control", answer)
    await control.start()
    _on_signals(joiner.stop)
    try:
        reason = await joiner.run()
        log.info("ended: %s", reason)
        announce(task, "ended", text="This machine is no longer part of the cluster.", reason=reason, at=time.time())
    finally:
        await control.close()


def _save_joined(data_dir: DataDir, joiner: JoinerSupervisor, node: Node) -> None:
    """Let whoever works on this machine find the way to the head."""
    try:
        data_dir.save(JoinedRecord(str(joiner.head_path), node.name, node.address, joiner.grace_s))
    except RaycolabError as error:  # a machine without room for it can still compute
        log.warning("clients here will not find the head: %s", error)


def _options(given: Mapping[str, Any], kind: type[Options]) -> Options:
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise ClusterError(f"The options of this node cannot be read ({error}): start it again.") from error


def _on_signals(stop: Callable[[], object]) -> None:
    def end(number: signal.Signals) -> None:
        _RECEIVED.add(number)
        stop()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, end, number)


def _event_loop_run(run: Any) -> None:
    """asyncio.run, on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(run)
    else:
        uvloop.run(run)


def _log_to(path: Path) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    logging.basicConfig(
        filename=path, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    # It writes a traceback for every stranger who breaks off, and the disk has an end.
    logging.getLogger("tunnel.websockets").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
