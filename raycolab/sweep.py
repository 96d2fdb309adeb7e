"""Sweeps as a person declares, runs and reads them.

`declare` checks everything before anything is reached, and freezes MAIN and the spec in the database; `start` asks the
head's engine to run it; the results are read from the database, while it runs and ever after.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from raycolab.cluster import Head, attach
from raycolab.errors import ClusterError, Detached, NoHeadError, SweepChangedError, UnknownSweepError, UsageError
from raycolab.main.notebook import MainNotebook
from raycolab.node.data_dir import DataDir
from raycolab.node.versions import versions
from raycolab.search import enumerate_trials
from raycolab.spec.change import compare, refuse_contradictions
from raycolab.spec.keys import keys_help
from raycolab.spec.spec import SweepSpec, check_fits
from raycolab.text import tally_text
from raycolab.trials import AT_REST, SweepRow, SweepState, TrialState

if TYPE_CHECKING:  # pandas and SQLAlchemy take a second to import
    from raycolab.pull import Puller, Task
    from raycolab.results.table import Results
    from raycolab.store import Store

__all__ = ["Sweep", "declare", "declare_spec", "find"]

Show = Callable[[Mapping[str, Any], list[Mapping[str, Any]]], None]
"""What is shown of a running sweep: its object of `status --json`, and the nodes' ones."""

POLL_S = 0.5
_PULLERS: dict[tuple[str, int, str | None], Puller] = {}  # of this process, by data directory, sweep and its code


class Sweep:
    """One declared sweep; make it with `declare`, or `find` for one that exists."""

    def __init__(self, name: str, data_dir: DataDir, store_url: str) -> None:
        self.name = name
        self._data_dir = data_dir
        self._store_url = store_url
        self._began = time.time()  # when it was started from here
        self._puller: Puller | None = None
        self._task: Task | None = None  # that `not_done` waited for

    def start(self, *, expect_slots: int | None = None) -> Sweep:
        """Have the head run it and return at once. NoHeadError when no head runs.

        `expect_slots` holds the first trials back until so many slots have loaded MAIN, or a minute has passed.
        """
        self._began = time.time()
        self._head().request("start", sweep=self.name, expect_slots=expect_slots)
        return self

    def run(self, *, progress: Show | None = None) -> Results:
        """Run it to its end and return the results, showing progress; interrupting detaches and it goes on."""
        self.start()
        results = self.wait(progress=progress)
        if progress is None:
            with contextlib.suppress(ClusterError):  # the head may have been told to end in the meantime
                print(self.worth(nodes=len(self._head().nodes())))  # noqa: T201 - for the cell's reader
        return results

    def wait(self, *, progress: Show | None = None) -> Results:
        """The results, once the sweep is at rest. Without `progress` a line shows it."""
        self.wait_status(progress=progress)
        return self.results

    def wait_status(self, *, progress: Show | None = None) -> Mapping[str, Any]:
        """The sweep's object of `status --json`, once it is at rest."""
        from raycolab.view.progress import SweepProgress

        with contextlib.ExitStack() as stack:
            show = progress or stack.enter_context(SweepProgress()).update
            try:
                while True:
                    status, nodes = self._look()
                    show(status, nodes)
                    if SweepState(status["state"]) in AT_REST:
                        return status
                    time.sleep(POLL_S)
            except KeyboardInterrupt:
                raise Detached(
                    f"Detached: the sweep {self.name!r} goes on. raycolab.find({self.name!r}).wait() shows it again,"
                    " `raycolab status` too."
                ) from None

    def worth(self, *, nodes: int) -> str:
        """What the cluster was worth since `start` was called here, and a line that runs the best configuration."""
        from raycolab.results.speedup import compute_line, most_at_once, worth_line

        results = self.results
        rows = [row for row in results.rows if row.ended_at is not None and row.ended_at >= self._began]
        wall_s = max((row.ended_at or 0.0 for row in rows), default=self._began) - self._began
        head_slots = most_at_once(rows, "head")
        lines = [worth_line(rows, nodes=nodes, head_slots=head_slots, wall_s=wall_s)] if rows else []
        best = results.best_trial
        if best is not None:
            with self._store() as store:
                main = MainNotebook.from_json(store.existing_sweep(self.name).main or "")
            lines.append("To run the best configuration again, below the cells of MAIN:")
            lines.append(compute_line(main.signature().arguments(best.model, best.dataset, best.config or {})))
        return "\n".join(lines)

    def not_done(self) -> bool:
        """Pull style: wait for a task for this notebook; False once the sweep is at rest."""
        return self._next_task() is not None

    def get_task(self) -> Task:
        """Pull style: the task for this notebook, waiting for one; UsageError once the sweep is at rest."""
        task, self._task = self._next_task(), None
        if task is None:
            raise UsageError(
                f"The sweep {self.name!r} is at rest ({self.state}), so there is no task to get: ask `not_done()`"
                " before each `get_task()`."
            )
        return task

    def _next_task(self) -> Task | None:
        if self._task is None:
            if self._puller is None:
                self._puller = self._make_puller()
                self._task = self._puller.next(begin=True)
            else:
                self._task = self._puller.next()
        return self._task

    def _make_puller(self) -> Puller:
        """The one of this process, which may hold a task that it was given before."""
        from raycolab.pull import Puller

        with self._store() as store:
            row = store.existing_sweep(self.name)
        key = (str(self._data_dir.path), row.id, row.code_fingerprint)
        if key not in _PULLERS:

            def request(op: str, **fields: Any) -> dict[str, Any]:
                return self._head().request(op, **fields)

            metric = SweepSpec.from_json(row.spec).metric
            _PULLERS[key] = Puller(self.name, request, row.main or "", metric, self._data_dir.path / "pull")
        return _PULLERS[key]

    @property
    def state(self) -> SweepState:
        """Where it stands, by the database."""
        with self._store() as store:
            return store.existing_sweep(self.name).state

    @property
    def results(self) -> Results:
        """What it found so far."""
        from raycolab.results.table import Results

        with self._store() as store:
            row = store.existing_sweep(self.name)
            spec = SweepSpec.from_json(row.spec)
            return Results(
                spec.metric,
                store.trials(row.id),
                store.attempts(row.id),
                models=tuple(spec.models),
                datasets=spec.datasets,
                name=self.name,
                reports=store.reports(row.id),
                declared=row,
            )

    @property
    def database(self) -> str:
        """Where the rows are: a file's absolute path, or a URL without its password."""
        with self._store() as store:
            return store.location

    def pause(self) -> None:
        """No new trials; running ones go on."""
        self._head().request("pause", sweep=self.name)

    def resume(self) -> None:
        """Go on after a pause, or with the trials of held models."""
        self._head().request("resume", sweep=self.name)

    def stop(self) -> None:
        """No new trials; running ones finish, and that is the end."""
        self._head().request("stop", sweep=self.name)

    def cancel(self) -> None:
        """End the running trials too, now."""
        self._head().request("cancel", sweep=self.name)

    def retry(self, which: str | None = None) -> None:
        """Queue FAILED ("failed"), LOST ("lost") or both kinds of trials again."""
        if which not in (None, "failed", "lost"):
            raise UsageError(f"retry takes 'failed' or 'lost', not {which!r}: leave it out for both.")
        self._head().request("retry", sweep=self.name, which=which)

    def delete(self) -> None:
        """Delete it with all its trials from the database; UsageError while a head is at work on it."""
        with contextlib.suppress(NoHeadError):
            at_work = {SweepState.RUNNING, SweepState.QUEUED, SweepState.PAUSED}
            if any(seen["name"] == self.name and seen["state"] in at_work for seen in self._head().status()["sweeps"]):
                raise UsageError(
                    f"The sweep {self.name!r} is not at rest: run `raycolab cancel {shlex.quote(self.name)}` first."
                )
        with self._store() as store:
            store.delete_sweep(self.name)

    def logs(self, number: int) -> str:
        """The last lines that trial `number` printed."""
        with self._store() as store:
            rows = store.trials(store.existing_sweep(self.name).id)
        for row in rows:
            if row.number == number:
                return row.output or ""
        raise UsageError(f"The sweep {self.name!r} has no trial {number}: give a number from 0 to {len(rows) - 1}.")

    def __repr__(self) -> str:
        with self._store() as store:
            row = store.existing_sweep(self.name)
            counts = {state.value.lower(): count for state, count in store.counts(row.id).items()}
        tally = tally_text({**counts, "total": sum(counts.values())})
        return f"<sweep {self.name!r}: {row.state.value}  {tally}>"

    def _repr_html_(self) -> str:
        """The panel, as it stands at the head, or by the database where no head has it."""
        from raycolab.engine.stored_sweeps import news_of
        from raycolab.view.panels import sweep_panel

        with contextlib.suppress(ClusterError):
            return sweep_panel(*self._look())
        with self._store() as store:
            return sweep_panel(news_of(store, store.existing_sweep(self.name), None).to_json())

    def _look(self) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
        status = self._head().status()
        mine = [sweep for sweep in status["sweeps"] if sweep["name"] == self.name]
        if not mine:
            raise ClusterError(f"The head does not run the sweep {self.name!r}: start it again.")
        return mine[0], status["nodes"]

    def _head(self) -> Head:
        return attach(self._data_dir.path)

    def _store(self) -> Store:
        from raycolab.store import open_store

        return open_store(self._store_url)


def declare(
    name: str,
    *,
    main: Any = None,
    data_dir: str | os.PathLike[str] | None = None,
    announce: Callable[[str], None] = print,
    **arguments: Any,
) -> Sweep:
    """Create the sweep of this name, or get the one there is and extend it by what is new.

    `main` is the path of a notebook or a notebook object; without one an existing sweep keeps its own. Raises
    MainError, SpaceError, SweepChangedError and other UsageErrors before anything is reached. The other arguments are
    the keys of a sweep file:

    """
    spec = SweepSpec.from_arguments(name, **arguments)
    return declare_spec(spec, main=main, data_dir=data_dir, announce=announce)


declare.__doc__ = f"{declare.__doc__}{keys_help(SweepSpec)}\n"


def declare_spec(
    spec: SweepSpec,
    *,
    main: Any = None,
    data_dir: str | os.PathLike[str] | None = None,
    announce: Callable[[str], None] = print,
    to_run: bool = False,
) -> Sweep:
    """`declare` for a spec that exists already, as a sweep file gives one.

    With `to_run` it must be possible to start the sweep: NoHeadError comes after what is wrong with the declaration,
    and before anything is written.
    """
    name = spec.name
    notebook = None if main is None else MainNotebook.load(main)
    if notebook is not None:
        check_fits(spec, notebook.signature(), main=notebook.name)
    chosen = DataDir.chosen(data_dir, os.environ)
    sweep = find(name, data_dir=chosen.path, must_exist=False)
    with sweep._store() as store:
        row = store.sweep(name)
        if row is not None:
            write = _extension(store, row, spec, notebook, announce)
        elif notebook is None:
            raise UsageError(f"The sweep {name!r} is new, so it needs `main`: the path of the notebook with `compute`.")
        else:
            write = partial(_create, store, spec, notebook)
        if to_run:
            attach(chosen.path)
        write()
    return sweep


def find(name: str, *, data_dir: str | os.PathLike[str] | None = None, must_exist: bool = True) -> Sweep:
    """The sweep of this name in the database of the data directory; UnknownSweepError when there is none."""
    from raycolab.store import sqlite_url

    chosen = DataDir.chosen(data_dir, os.environ)
    record = chosen.read_head()
    sweep = Sweep(name, chosen, record.store if record is not None else sqlite_url(chosen.database_path))
    if must_exist:
        if not name.isprintable():
            raise UnknownSweepError(f"No sweep is named {name!r}: a sweep's name is one printable line.")
        if record is None and not chosen.database_path.exists():
            raise UnknownSweepError(
                f"No sweep is named {name!r}: nothing was ever submitted with the data directory {chosen.path}. Give"
                " the --data-dir that it was submitted with."
            )
        _ = sweep.state
    return sweep


def _create(store: Store, spec: SweepSpec, notebook: MainNotebook) -> None:
    """Write a sweep that is new."""
    store.create_sweep(
        spec.name,
        spec.to_json(),
        notebook.to_json(),
        spec.fingerprint(),
        notebook.code_fingerprint(),
        versions(),
        enumerate_trials(spec),
        time.time(),
    )


def _extension(
    store: Store, row: SweepRow, spec: SweepSpec, notebook: MainNotebook | None, announce: Callable[[str], None]
) -> Callable[[], None]:
    """What makes an existing sweep mean what was declared now, as far as that only adds; raises where it does not."""
    change = compare(SweepSpec.from_json(row.spec), spec)
    refuse_contradictions(row.name, change)
    trials = store.trials(row.id)
    code_changed = notebook is not None and notebook.code_fingerprint() != row.code_fingerprint
    if code_changed and any(trial.state is TrialState.COMPLETE for trial in trials):
        raise SweepChangedError(
            f"The sweep {row.name!r} exists and the code of MAIN has changed since its finished trials ran: declare it "
            f"under another name, or `raycolab delete {shlex.quote(row.name)}` first."
        )
    if code_changed and row.state in (SweepState.RUNNING, SweepState.PAUSED):
        name = shlex.quote(row.name)
        raise SweepChangedError(
            f"The sweep {row.name!r} is at work with the code that MAIN had before: declare it under another name, or "
            f"`raycolab cancel {name}` and `raycolab delete {name}` first."
        )
    if notebook is None:
        check_fits(spec, MainNotebook.from_json(row.main or "").signature())

    def write() -> None:
        for line in change.extends:
            announce(f"{row.name}: {line}")
        added = enumerate_trials(spec, trials)
        if added:
            store.write(row.id, added)
        if added or code_changed or not change.nothing:
            store.update_sweep(
                row.id,
                spec=spec.to_json(),
                spec_fingerprint=spec.fingerprint(),
                main=notebook.to_json() if notebook is not None else row.main,
                code_fingerprint=notebook.code_fingerprint() if notebook is not None else row.code_fingerprint,
            )

    return write
