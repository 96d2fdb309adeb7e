"""What the table of failure kinds runs on: sweeps that fail on purpose, and what was stored and told of each failure.

`python -m tests.integration.failure_stage` is the full disk: a head whose data directory is a disk of a few MB. It
wants a mount namespace of its own and says what it saw as one JSON line.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

import raycolab
from raycolab.store import open_store, sqlite_url
from raycolab.trials import FINAL_STATES, AttemptRow, TrialRow, TrialState
from tests.integration.outage_stage import Sweep as SleepingSweep
from tests.integration.sessions import Cluster, Tab, cluster, until, write_main

__all__ = ["HEAD_AND_TWO", "Ending", "Stage", "failure_stage", "full_disk"]

HEAD_AND_TWO = frozenset({"head", "joiner-1", "joiner-2"})
ENOUGH = 1000  # trials that come through: more than run until a sweep is stopped
ROOM = 5 << 29  # bytes by which memory may get fuller once the small node starts: its Ray and four slots take 0.8 GiB
DISK_MB = 4

# MAIN: a function for each kind of failure, named as its model; `fine` is what the sweep goes on with.
_FIRST = "import ctypes, os, socket, sys, time\nimport numpy"
_LAST = """
def only_once(name):
    try:
        os.close(os.open(os.path.join(FOLDER, "once-" + name), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True

def fine():
    if socket.gethostname() == SMALL:
        for happens in AT_THE_SMALL_NODE:
            if only_once(happens.__name__):
                happens()
                break
    time.sleep(0.3)
    return 1.0

def compute(model, x):
    return globals()[model]()
"""


@dataclass(frozen=True, slots=True)
class Ending:
    """How one trial ended, or the trials of a whole sweep, and what ran next."""

    state: TrialState
    error_kind: str | None
    message: str  # the row's error; without one what its first failed attempt says, or the sweep
    tries: tuple[tuple[str, str], ...]  # outcome and node of each attempt, in order
    after: frozenset[str]  # nodes where a trial that began later is COMPLETE
    is_best: bool = False

    def __str__(self) -> str:
        message = self.message.splitlines()[0] if self.message else ""
        tries = ", ".join(f"{outcome} on {node}" for outcome, node in self.tries) or "none"
        return f"{self.state} | {self.error_kind} | {message} | {tries} | then {', '.join(sorted(self.after))}"


@dataclass(frozen=True, slots=True)
class Run:
    """A sweep that was started, read from the database whenever it is asked."""

    name: str
    stage: Stage

    @property
    def rows(self) -> list[TrialRow]:
        """Its trials."""
        return self.stage.store.trials(self._id)

    @property
    def attempts(self) -> list[AttemptRow]:
        """Its attempts."""
        return self.stage.store.attempts(self._id)

    @property
    def _id(self) -> int:
        return self.stage.store.existing_sweep(self.name).id

    def told(self) -> Mapping[str, Any]:
        """Its object of `status --json`."""
        sweeps: list[dict[str, Any]] = raycolab.attach(self.stage.nodes.data_dir).status()["sweeps"]
        return next((each for each in sweeps if each["name"] == self.name), {"state": None, "sentence": None})

    def sentence(self) -> str:
        """What people are told of it now."""
        return str(self.told()["sentence"] or "")

    def wait_told(self, state: str) -> None:
        """Wait until it is in this state."""
        until(lambda: self.told()["state"] == state, 90, lambda: self.told())

    def number(self, model: str) -> int:
        """The only trial of this model."""
        (found,) = (row.number for row in self.rows if row.model == model)
        return found

    def number_of(self, node: str, outcome: TrialState) -> int | None:
        """The first trial of those that are fine elsewhere with such an attempt there."""
        fine = {row.number for row in self.rows if row.model == "fine"}
        there = (each for each in self.attempts if (each.node, each.outcome) == (node, outcome))
        return next((each.trial for each in there if each.trial in fine), None)

    def nodes_after(self, since: float) -> frozenset[str]:
        """Where trials that began after this time are COMPLETE."""
        return frozenset(
            each.node for each in self.attempts if each.outcome == TrialState.COMPLETE and each.started_at > since
        )

    def wait_for_others(self, numbers: Collection[int], nodes: Iterable[str]) -> None:
        """Wait until these trials are over and later ones are COMPLETE on these nodes."""

        def over() -> bool:
            ends = [row.ended_at for row in self.rows if row.number in numbers and row.state in FINAL_STATES]
            known = [end for end in ends if end is not None]
            return len(known) == len(numbers) and self.nodes_after(max(known)) >= set(nodes)

        until(over, 90, lambda: [self.sentence(), *(each for each in self.attempts if each.outcome != "COMPLETE")])

    def stop(self) -> None:
        """End it: what it was for has been seen."""
        raycolab.find(self.name, data_dir=self.stage.nodes.data_dir).stop()
        self.wait_told("STOPPED")

    def ending(self, number: int) -> Ending:
        """How this trial ended."""
        row = next(each for each in self.rows if each.number == number)
        tries = [each for each in self.attempts if each.trial == number]
        told = [row.error, *(each.reason for each in tries)]
        unsuccessful = [each.ended_at or 0.0 for each in tries if each.outcome != TrialState.COMPLETE]
        best = self.told().get("best")
        return Ending(
            row.state,
            row.error_kind,
            next((each for each in told if each), ""),
            tuple((each.outcome, each.node) for each in tries),
            self.nodes_after(max(unsuccessful, default=row.ended_at or 0.0)),
            is_best=best is not None and best["number"] == number,
        )

    def whole(self, sentence: str, model: str) -> Ending:
        """How the trials of a model stand, but for those that were not run in the end: all in one state."""
        rows = [row for row in self.rows if row.model == model and row.state is not TrialState.CANCELLED]
        ((state, error_kind),) = {(row.state, row.error_kind) for row in rows}
        return Ending(state, error_kind, sentence, (), self.nodes_after(0.0))


class Stage:
    """A head and two joiners, one CPU each, and a folder of packages on each node that its Python looks into first."""

    def __init__(self, nodes: Cluster, site: Path) -> None:
        self.nodes = nodes
        self.store = open_store(sqlite_url(nodes.data_dir / "raycolab.db"))
        self.site = site  # the same path in every session, and each session's own

    def tab(self, node: str) -> Tab:
        """The session of a node."""
        number = node.removeprefix("joiner-")
        tab = self.nodes.head if node == "head" else self.nodes.joiners[f"tab-{number}"]
        assert tab is not None
        return tab

    def host(self, node: str) -> str:
        """What `socket.gethostname()` says there."""
        return self.tab(node).session.hostname

    def main(self, sources: Mapping[str, str], *setup: str, small: str = "", at_small: Sequence[str] = ()) -> list[str]:
        """The cells of a MAIN with a function of each name, after these cells of setup."""
        functions = [f"def {name}():\n{textwrap.indent(source.strip(), '    ')}" for name, source in sources.items()]
        names = f"FOLDER = {str(self.nodes.folder)!r}\nSMALL = {small!r}\nAT_THE_SMALL_NODE = [{', '.join(at_small)}]"
        return [_FIRST, *setup, *functions, f"{names}\n{_LAST}"]

    def start(self, name: str, cells: Sequence[str], models: Iterable[str], **arguments: Any) -> Run:
        """Declare and start a sweep: one trial of each model, then many that are fine."""
        sweep = raycolab.declare(
            name,
            main=write_main(self.nodes.folder, *cells),
            data_dir=self.nodes.data_dir,
            announce=lambda _: None,
            models={**{model: {"x": [0]} for model in models}, "fine": {"x": list(range(ENOUGH))}},
            datasets=["one"],
            method="grid",
            **arguments,
        )
        sweep.start()
        return Run(name, self)

    @contextlib.contextmanager
    def small_node(self) -> Iterator[str]:
        """One more joiner, whose Ray kills what makes this machine's memory fuller by `ROOM` than it is now."""
        memory = psutil.virtual_memory()
        if memory.available < 2 * ROOM:
            pytest.skip(f"running out of memory on purpose takes {2 * ROOM >> 30} GiB of free memory")
        full = 1 - (memory.available - ROOM) / memory.total
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(self.site))
            patch.setenv("RAY_memory_usage_threshold", f"{full:.4f}")
            patch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps({"memory": 1 << 30}))
            self.nodes.start_joiner("tab-3")
        self.nodes.wait_up(4)
        try:
            yield "joiner-3"
        finally:
            self.nodes.joiners.pop("tab-3").end()

    def mend(self) -> None:
        """Take what MAIN installed off every node."""
        for node in HEAD_AND_TWO:
            assert self.tab(node).run("rm", "-r", str(self.site)).returncode == 0

    def wheel(self, name: str, version: str) -> Path:
        """A wheel of a package that has this name and version and nothing else."""
        path = self.nodes.folder / f"{name}-{version}-py3-none-any.whl"
        about = f"{name}-{version}.dist-info"
        files = {
            f"{name}/__init__.py": f"__version__ = {version!r}\n",
            f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{file},,\n" for file in [*files, f"{about}/RECORD"])
        with zipfile.ZipFile(path, "w") as archive:
            for file, text in {**files, f"{about}/RECORD": record}.items():
                archive.writestr(file, text)
        return path

    def installing(self, name: str, version: str) -> str:
        """The cell that installs it, as people write it, but for the place."""
        return f"%pip install --no-index --no-deps --target {self.site} {self.wheel(name, version)}"


@contextlib.contextmanager
def failure_stage() -> Iterator[Stage]:
    """All three nodes up, with a short grace period for the one that is to be lost."""
    with cluster({"RAYCOLAB_GRACE_S": "3"}) as nodes:
        site = Path(f"{nodes.folder}-site")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(site))
            nodes.start_head()
            for number in (1, 2):  # one by one: they are numbered in order of joining
                tab = nodes.start_joiner(f"tab-{number}")
                until(lambda number=number: len(nodes.status()["nodes"]) > number, 60, tab.said)
        nodes.wait_up(3)
        (head_dir,) = nodes.folder.glob("rc-*/ray")
        for tab in nodes.joiners.values():
            _give_own(tab, head_dir.parent)
        stage = Stage(nodes, site)
        try:
            yield stage
        finally:
            stage.store.close()


def _give_own(tab: Tab, folder: Path) -> None:
    """Give a session this folder for itself alone, as on a machine of its own: what its slots share lies there."""
    own = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
    enter = ["nsenter", f"--target={tab.session.first_process}", "--mount", *own]
    subprocess.run([*enter, "mount", "-t", "tmpfs", "none", str(folder)], check=True, timeout=30)


def full_disk() -> Ending:
    """A sweep whose database finds no room for a while."""
    own = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    command = ["unshare", *own, "--mount", sys.executable, "-m", "tests.integration.failure_stage"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    tries = tuple((outcome, node) for outcome, node in seen.pop("tries"))
    return Ending(TrialState(seen.pop("state")), tries=tries, after=frozenset(seen.pop("after")), **seen)


def main() -> None:
    """Fill the disk in the middle of a sweep, look, make room, and see the sweep to its end."""
    with cluster() as nodes:
        disk = nodes.data_dir
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "none", str(disk)], check=True)
        nodes.start_head()
        sweep = SleepingSweep(nodes, "full-disk", trials=24, trial_s=0.2, held=2)
        sweep.wait_complete(5)
        run = Run(sweep.name, Stage(nodes, disk))
        filler = _fill(run.stage)
        until(run.sentence, 60, lambda: "nobody is told that the disk is full")
        sentence, stored, ran = run.sentence(), sweep.complete, len(sweep.runs())
        until(lambda: len(sweep.runs()) > ran or len(sweep.runs()) >= 22, 60, lambda: "nothing runs while it is full")
        assert sweep.complete == stored < 24
        since = max(each.ended_at for each in sweep.attempts() if each.outcome == "COMPLETE")
        filler.unlink()
        sweep.release()
        sweep.wait(60)
        sweep.assert_each_ran_once()
        ending = dataclasses.replace(
            run.whole(sentence, "a"), tries=(("COMPLETE", "head"),), after=run.nodes_after(since)
        )
        run.stage.store.close()
        nodes.end()
        subprocess.run(["umount", str(disk)], check=True)
    sys.stdout.write(json.dumps({**dataclasses.asdict(ending), "after": sorted(ending.after)}) + "\n")


def _fill(stage: Stage) -> Path:
    """Leave no page free on the disk; what the database has written ahead is folded into it first."""
    with contextlib.closing(sqlite3.connect(stage.nodes.data_dir / "raycolab.db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    filler = stage.nodes.data_dir / "filler"
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


if __name__ == "__main__":
    main()
