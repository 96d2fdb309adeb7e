"""Sweeps as a person declares, runs and reads them: clients of the head, whose engine alone writes the database.

`declare` checks whatever needs no database before anything is reached. What a sweep found is asked of the head; only
where none runs is it read from the database's own file.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, get_args

from raycolab.cluster import Way
from raycolab.errors import ClusterError, Detached, NoHeadError, RaycolabError, UnknownSweepError, UsageError
from raycolab.main.kernel import current_main
from raycolab.main.notebook import MainNotebook
from raycolab.node import api
from raycolab.node.data_dir import DataDir
from raycolab.node.messages import versions
from raycolab.spec.keys import keys_help
from raycolab.spec.spec import SweepSpec, check_fits
from raycolab.text import bytes_text, tally_text
from raycolab.trials import AT_REST, FINAL_STATES, SweepState, TrialState

if TYPE_CHECKING:  # pandas and SQLAlchemy take a second to import
    from raycolab.main.files import FrozenFiles
    from raycolab.node.rpc import Client
    from raycolab.pull import Puller, Task
    from raycolab.results.table import Results
    from raycolab.store import Store

__all__ = ["Sweep", "dashboard", "declare", "declare_spec", "find", "list_sweeps"]

Show = Callable[[Mapping[str, Any], list[Mapping[str, Any]]], None]
"""What is shown of a running sweep: its object of `status --json`, and the nodes' ones."""

OnTrial = Callable[[dict[str, Any]], object]
"""Gets the row of a trial that has ended."""

T = TypeVar("T")


class Ask(Protocol):
    """Answers a question that changes nothing: the head, or a store where no head runs."""

    def __call__(self, request: api.Request[T], /) -> T: ...


POLL_S = 0.5
_PULLERS: dict[tuple[str, int, str | None], Puller] = {}  # of this process, by data directory, sweep and its code


class Sweep:
    """One declared sweep; make it with `declare`, or `find` for one that exists."""

    def __init__(self, name: str, data_dir: DataDir) -> None:
        self.name = name
        self._way = Way.of(data_dir)
        self._began = time.time()  # when it was started from here
        self._puller: Puller | None = None
        self._task: Task | None = None  # that `not_done` waited for

    def start(self, *, expect_slots: int | None = None) -> Sweep:
        """Have the head run it and return at once. NoHeadError when no head runs.

        `expect_slots` holds the first trials back until so many slots have loaded MAIN, or a minute has passed.
        """
        self._began = time.time()
        self._ask(api.Start(self.name, expect_slots))
        return self

    def run(self, *, progress: Show | None = None, on_trial: OnTrial | None = None) -> Results:
        """Run it to its end and return the results, showing progress; interrupting detaches and it goes on.

        `on_trial` is as in `wait`.
        """
        self.start()
        results = self.wait(progress=progress, on_trial=on_trial)
        if progress is None:
            with contextlib.suppress(ClusterError):  # the head may have been told to end in the meantime
                print(self.speedup(self._ask(api.Status())["nodes"]))  # noqa: T201 - for the cell's reader
        return results

    def wait(self, *, progress: Show | None = None, on_trial: OnTrial | None = None) -> Results:
        """The results, once the sweep is at rest. Without `progress` a line shows it.

        `on_trial` is called here with the row of each trial that has ended, once, those that ended before included: a
        dict with the data frame's names, as `results.best` is. What it raises ends the waiting, and not the sweep.
        """
        self.wait_status(progress=progress, on_trial=on_trial)
        return self.results

    def wait_status(self, *, progress: Show | None = None, on_trial: OnTrial | None = None) -> Mapping[str, Any]:
        """The sweep's object of `status --json`, once it is at rest; arguments as those of `wait`."""
        from raycolab.view.progress import SweepProgress

        ended = None if on_trial is None else _EndedTrials(self._read, self.name, on_trial)
        with contextlib.ExitStack() as stack:
            show = progress or stack.enter_context(SweepProgress()).update
            try:
                while True:
                    status, nodes = self._look()
                    show(status, nodes)
                    if ended is not None:
                        ended.look(status)
                    if (state := SweepState(status["state"])) in AT_REST:
                        return status
                    if state is SweepState.DECLARED:
                        raise ClusterError(f"The sweep {self.name!r} is declared, and not at work: start it.")
                    time.sleep(POLL_S)
            except KeyboardInterrupt:
                raise Detached(
                    f"Detached: the sweep {self.name!r} goes on. raycolab.find({self.name!r}).wait() shows it again,"
                    " `raycolab status` too."
                ) from None

    def speedup(self, nodes: Sequence[Mapping[str, Any]]) -> str:
        """What the cluster was worth since `start` was called here, and a line that runs the best configuration.

        `nodes` are those of `status --json`.
        """
        from raycolab.results.speedup import compute_line, speedup_line

        results = self.results
        rows = [row for row in results.rows if row.ended_at is not None and row.ended_at >= self._began]
        share_cores = any(node["shares_cores"] for node in nodes)
        lines = [speedup_line(rows, began=self._began, nodes=len(nodes), share_cores=share_cores)] if rows else []
        best = results.best_trial
        if best is not None:
            main = MainNotebook.from_json(self._found(with_main=True).row.main or "")
            lines.append("To run the best configuration again, below the cells of MAIN:")
            arguments = main.signature().arguments(best.model, best.dataset, best.config or {})
            lines.append(compute_line(arguments, best.seed))
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

        row = self._found(with_main=True).row
        data_dir = self._way.data_dir.path
        key = (str(data_dir), row.id, row.code_fingerprint)
        if key not in _PULLERS:
            node = self._way.look().node
            metric = SweepSpec.from_json(row.spec).metric
            main = (row.main or "", metric, data_dir / "pull")
            _PULLERS[key] = Puller(self.name, self._way.client, node, *main, main_version=row.main_version)
        return _PULLERS[key]

    @property
    def state(self) -> SweepState:
        """Where it stands, by the database."""
        return self._found().row.state

    @property
    def results(self) -> Results:
        """What it found so far."""
        return self._read(self._results)

    def _results(self, ask: Ask) -> Results:
        from raycolab.results.table import Results

        row = ask(api.Find(self.name, with_main=True)).row
        spec = SweepSpec.from_json(row.spec)
        reports: dict[int, dict[int, float]] = {}
        for report in _rows(ask, row.id, "reports"):
            reports.setdefault(report.trial, {})[report.step] = report.value
        return Results(
            spec.metric,
            _rows(ask, row.id, "trials"),
            _rows(ask, row.id, "attempts"),
            models=tuple(spec.models),
            datasets=spec.datasets,
            name=self.name,
            reports=reports,
            declared=row,
        )

    @property
    def database(self) -> str:
        """Where the rows are: a file's absolute path on the head's machine, or a URL without its password."""
        return self._found().database

    @property
    def database_line(self) -> str:
        """The same for a person who copies it, with the file that has to go with it, where there is one."""
        found = self._found()
        beside = f"  (the newest rows are in {found.beside}: copy both)" if found.beside else ""
        return f"database: {found.database}{beside}"

    def pause(self) -> None:
        """No new trials; running ones go on."""
        self._ask(api.Pause(self.name))

    def resume(self) -> None:
        """Go on after a pause, or with the trials of held models; UsageError when no trial is left to run."""
        self._ask(api.Resume(self.name))

    def stop(self) -> None:
        """No new trials; running ones finish, and that is the end. UsageError when it has ended already."""
        self._ask(api.Stop(self.name))

    def cancel(self) -> None:
        """End the running trials too, now; UsageError when it has ended already."""
        self._ask(api.Cancel(self.name))

    def retry(self, which: str | None = None) -> None:
        """Queue FAILED ("failed"), LOST ("lost") or all trials that did not complete again; UsageError for none."""
        if which not in (None, "failed", "lost"):
            raise UsageError(
                f"retry takes 'failed' or 'lost', not {which!r}: leave it out for all that did not complete."
            )
        self._ask(api.Retry(self.name, which))  # type: ignore[arg-type]  # one of these

    def delete(self) -> None:
        """Delete it with all its trials from the database; UsageError while a head is at work on it."""
        try:
            self._ask(api.Delete(self.name))
        except NoHeadError:
            with self._store() as store:
                store.delete_sweep(self.name)

    def logs(self, number: int) -> str:
        """The last lines that trial `number` printed."""
        return self._read(lambda ask: ask(api.ReadOutput(self.name, number)))

    def __repr__(self) -> str:
        found = self._found()
        counts = {state.value.lower(): count for state, count in found.counts.items()}
        tally = tally_text({**counts, "total": sum(counts.values())})
        return f"<sweep {self.name!r}: {found.row.state.value}  {tally}>"

    def _repr_html_(self) -> str:
        """The panel, as it stands at the head, or by the database where no head has it."""
        from raycolab.engine.stored_sweeps import status_of
        from raycolab.view.panels import sweep_panel

        with contextlib.suppress(ClusterError):
            return sweep_panel(*self._look())

        def panel(ask: Ask) -> str:
            row = ask(api.Find(self.name)).row
            status = status_of(row, _rows(ask, row.id, "trials"), _rows(ask, row.id, "attempts"), None)
            return sweep_panel(status.to_json())

        return self._read(panel)

    def _look(self) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
        status = self._ask(api.Status())
        mine = [sweep for sweep in status["sweeps"] if sweep["name"] == self.name]
        if not mine:
            raise ClusterError(f"The head does not run the sweep {self.name!r}: start it again.")
        return mine[0], status["nodes"]

    def _found(self, *, with_main: bool = False) -> api.FoundSweep:
        return self._read(lambda ask: ask(api.Find(self.name, with_main)))

    def _ask(self, request: api.Request[T]) -> T:
        return self._way.client.ask(request)

    def _read(self, read: Callable[[Ask], T]) -> T:
        """Read rows by asking the head, or the database's own file where no head runs."""
        try:
            return read(self._way.client.ask)
        except NoHeadError:
            from raycolab.engine.stored_sweeps import answer

            with self._store() as store:
                return read(partial(answer, store))

    def _store(self) -> Store:
        """The database where no head runs; UnknownSweepError when there never was one."""
        from raycolab.store import open_store, sqlite_url

        data_dir = self._way.data_dir
        if not data_dir.database_path.exists():
            raise UnknownSweepError(
                f"No sweep is named {self.name!r}: nothing was ever submitted with the data directory {data_dir.path}."
                " Give the --data-dir that it was submitted with."
            )
        return open_store(sqlite_url(data_dir.database_path))


class _EndedTrials:
    """Tells a function of each trial that has ended, once."""

    def __init__(self, read: Callable[[Callable[[Ask], list[Any]]], list[Any]], sweep: str, on_trial: OnTrial) -> None:
        self._read = read
        self._sweep = sweep
        self._on_trial = on_trial
        self._told: set[tuple[int, int]] = set()  # number and attempts: one that was run again is told again
        self._seen: list[int] = []  # how many had ended in each way when the rows were read
        self._not_before = 0.0

    def look(self, status: Mapping[str, Any]) -> None:
        """There is a newer status. Of a large sweep rows take a while to read, so that they are read less often."""
        from raycolab.results.frame import row_dict

        ended = [status[state.value.lower()] for state in TrialState if state in FINAL_STATES]
        begun = time.monotonic()
        is_last = SweepState(status["state"]) in AT_REST
        if ended == self._seen or (begun < self._not_before and not is_last):
            return
        self._seen = ended
        metric, *rows = self._read(self._rows)
        self._not_before = begun + 10 * (time.monotonic() - begun)
        for row in rows:
            if row.state in FINAL_STATES and (row.number, row.attempts) not in self._told:
                self._told.add((row.number, row.attempts))
                self._on_trial(row_dict(row, self._sweep, metric))

    def _rows(self, ask: Ask) -> list[Any]:
        """The metric, and the rows."""
        row = ask(api.Find(self._sweep)).row
        return [SweepSpec.from_json(row.spec).metric, *_rows(ask, row.id, "trials")]


def _rows(ask: Ask, sweep_id: int, table: api.Table) -> list[Any]:
    """All rows of a sweep's table, page by page."""
    rows: list[Any] = []
    more = True
    while more:
        page = ask(api.ReadRows(sweep_id, table, after=api.keys_of(table, rows[-1]) if rows else None))
        rows += api.rows_of(table, page)
        more = page.more
    return rows


def declare(
    name: str,
    *,
    main: Any = None,
    main_changed: api.MainChanged | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    announce: Callable[[str], None] = print,
    **arguments: Any,
) -> Sweep:
    """Create the sweep of this name, or get the one there is and extend it by what is new.

    `main` is the path of a notebook or a Python file, a notebook object or a function; in a notebook that `run_main`
    runs it is that one, and elsewhere an existing sweep keeps its own. Where finished rows ran another MAIN or other
    files of it, `main_changed` says what becomes of them: with "keep" they stay, with "rerun" all rows run again.
    Raises MainError, SpaceError and other UsageErrors before anything is reached, NoHeadError, and SweepChangedError
    for what contradicts the sweep there is. The other arguments are the keys of a sweep file, of one of W&B's too:

    """
    declared = SweepSpec.declared({"main": main, **arguments, "name": name})
    for note in declared.notes:
        announce(f"{name}: {note}")
    main = current_main() if declared.main is None else declared.main
    return declare_spec(declared.spec, main=main, main_changed=main_changed, data_dir=data_dir, announce=announce)


declare.__doc__ = f"{declare.__doc__}{keys_help(SweepSpec)}\n"


def declare_spec(
    spec: SweepSpec,
    *,
    main: Any = None,
    main_changed: api.MainChanged | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    announce: Callable[[str], None] = print,
) -> Sweep:
    """`declare` for a spec that exists already, as a sweep file gives one."""
    if main_changed not in (None, *get_args(api.MainChanged)):
        raise UsageError(f"main_changed is {main_changed!r}: give 'keep' or 'rerun'.")
    notebook = None if main is None else MainNotebook.load(main)
    archive = b""
    if notebook is not None:
        check_fits(spec, notebook.signature(), main=notebook.name)
        if spec.files:
            notebook, archive = notebook.with_files(spec.files)
    elif spec.files:
        raise UsageError("files lie in MAIN's folder: give main too.")
    chosen = DataDir.chosen(data_dir, os.environ)
    client = Way.of(chosen).client
    files = None if notebook is None else notebook.origin.files
    if files is not None:
        announce(f"{spec.name}: {_cost_of(files, client)}")
        _send(files, archive, client)
    code = None if notebook is None else notebook.to_json()
    for line in client.ask(api.Declare(spec.to_json(), code, versions(), main_changed)):
        announce(line)
    return Sweep(spec.name, chosen)


def _cost_of(files: FrozenFiles, client: Client) -> str:
    """What travels with MAIN, and what that takes of the tunnel's allowance."""
    traffic = client.ask(api.Status()).get("traffic") or {}
    limit = traffic.get("limit_bytes")
    of = f" of the {bytes_text(limit)} a month of {traffic['provider']}'s free plan" if limit else ""
    return (
        f"{files} travel with MAIN, once to each node: {bytes_text(files.packed_size)} packed, for each joiner through "
        f"the tunnel{of}."
    )


def _send(files: FrozenFiles, archive: bytes, client: Client) -> None:
    """Send the head what it lacks of the archive."""
    size = len(archive)
    there = client.ask(api.PutFiles(files.digest, size, 0, b""))
    while there < size:
        piece = archive[there : there + api.PIECE_BYTES]
        there = client.ask(api.PutFiles(files.digest, size, there, piece))


def list_sweeps(*, data_dir: str | os.PathLike[str] | None = None) -> list[api.FoundSweep]:
    """Every sweep of the database, by the head, or from the file where none runs."""
    way = Way.of(DataDir.chosen(data_dir, os.environ))
    try:
        return way.client.ask(api.ListSweeps())
    except NoHeadError:
        from raycolab.engine.stored_sweeps import answer
        from raycolab.store import open_store, sqlite_url

        path = way.data_dir.database_path
        if not path.exists():
            return []
        with open_store(sqlite_url(path)) as store:
            found: list[api.FoundSweep] = answer(store, api.ListSweeps())
            return found


def dashboard(*, port: int = 0, data_dir: str | os.PathLike[str] | None = None) -> str:
    """optuna-dashboard on all sweeps, a study for each pair, kept current by this process; its address.

    It is served on this machine alone, as long as this process lives; in Colab it is shown below the cell. Needs
    optuna-dashboard: `pip install 'raycolab[dashboard]'`. Raises UsageError, PortTakenError.
    """
    from raycolab import colab
    from raycolab.results.dashboard import serve

    counts: dict[str, dict[TrialState, int]] = {}

    def changed() -> Iterator[Results]:
        with contextlib.suppress(ClusterError):  # the head is busy, or just ending: it is looked at again
            for each in list_sweeps(data_dir=data_dir):
                if counts.get(each.row.name) != each.counts:
                    yield find(each.row.name, data_dir=data_dir).results
                    counts[each.row.name] = each.counts

    taken, _ = serve(changed, port)
    if colab.is_colab(os.environ) and colab.has_kernel():
        colab.show_port(taken)
    return f"http://127.0.0.1:{taken}/dashboard/"


def find(name: str, *, data_dir: str | os.PathLike[str] | None = None) -> Sweep:
    """The sweep of this name, by the head, or by the database where none runs; UnknownSweepError when there is none."""
    if not name.isprintable():
        raise UnknownSweepError(f"No sweep is named {name!r}: a sweep's name is one printable line.")
    sweep = Sweep(name, DataDir.chosen(data_dir, os.environ))
    try:
        _ = sweep.state
    except RaycolabError as error:
        if error.exit_code != RaycolabError.exit_code:  # else its row is damaged: it can be deleted all the same
            raise
    return sweep
