"""What is asked of sweeps in the store: declared, found, read, and changed while they are not at work.

Functions of the store alone, called in threads; the engine's actor says in which, and what else an order means.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from raycolab.engine.book import TrialBook
from raycolab.errors import RaycolabError, SweepChangedError, UsageError
from raycolab.node.api import (
    Declare,
    Find,
    FoundSweep,
    ListSweeps,
    MainChanged,
    Page,
    ReadOutput,
    ReadRows,
    page_of,
)
from raycolab.search import enumerate_trials
from raycolab.spec.change import compare, refuse_contradictions
from raycolab.spec.spec import SweepSpec, check_fits
from raycolab.store import DamagedRowError, Store
from raycolab.store.archives import Archives
from raycolab.summary import SweepStatus
from raycolab.text import counted
from raycolab.trials import FINAL_STATES, AttemptRow, Metric, SweepRow, SweepState, TrialRow, TrialState

__all__ = [
    "RETRIED",
    "Declared",
    "Question",
    "answer",
    "cancel_rows",
    "check",
    "declaration",
    "drop_archives",
    "has_work",
    "plain_status",
    "queued_sweeps",
    "retry_rows",
    "status_of",
    "stored_status",
]

RETRIED: dict[str | None, Collection[TrialState]] = {
    "failed": frozenset({TrialState.FAILED}),
    "lost": frozenset({TrialState.LOST}),
    None: frozenset({TrialState.FAILED, TrialState.LOST, TrialState.CANCELLED}),
}
"""The final states that `retry` takes back."""

_PAGE_ROWS = 5_000
_WITHOUT_OUTPUT = frozenset({TrialState.COMPLETE, TrialState.PRUNED})

_FINISHED = frozenset({TrialState.COMPLETE, TrialState.PRUNED})

Question = Find | ListSweeps | ReadRows | ReadOutput
Write = Callable[[Store], object]


@dataclass(frozen=True, slots=True)
class Declared:
    """What a declaration changes: a line for each point, what writes it, and what it has run again."""

    lines: list[str]
    write: Write
    # Trials in these final states run again, since MAIN has changed; none where it has not.
    again: Collection[TrialState] = ()


def declaration(store: Store, request: Declare) -> Declared:
    """What the declaration changes; raises UsageError where it cannot be."""
    spec = SweepSpec.from_json(request.spec)
    row = store.sweep(spec.name)
    if row is not None:
        return _extension(store, row, spec, request.main, request.main_changed)
    if request.main is None:
        raise UsageError(
            f"The sweep {spec.name!r} is new, so it needs `main`: the path of the notebook with `compute`."
        )
    create = partial(
        Store.create_sweep,
        name=spec.name,
        spec=request.spec,
        main=request.main,
        spec_fingerprint=spec.fingerprint(),
        code_fingerprint=_code_fingerprint(request.main),
        versions=request.versions,
        trials=enumerate_trials(spec),
        now=time.time(),
    )
    return Declared([], create)


def _extension(
    store: Store, row: SweepRow, spec: SweepSpec, main: str | None, main_changed: MainChanged | None
) -> Declared:
    """What makes a sweep that exists mean what is declared now, as far as that only adds; raises where it does not."""
    change = compare(SweepSpec.from_json(row.spec), spec)
    refuse_contradictions(row.name, change)
    trials = store.trials(row.id)
    code = row.code_fingerprint if main is None else _code_fingerprint(main)
    code_changed = code != row.code_fingerprint
    finished = sum(trial.state in _FINISHED for trial in trials)
    if code_changed and finished and main_changed is None:
        raise SweepChangedError(_which_way(row.name, finished))
    if main is None:
        _check_fits(spec, row.main or "")
    added = enumerate_trials(spec, trials)

    def write(store: Store) -> None:
        if added:
            store.write(row.id, added)
            if row.state is SweepState.COMPLETE:
                store.update_sweep(row.id, state=SweepState.DECLARED)
        if added or code_changed or not change.nothing:
            store.update_sweep(
                row.id,
                spec=spec.to_json(),
                spec_fingerprint=spec.fingerprint(),
                main=row.main if main is None else main,
                code_fingerprint=code,
                main_version=row.main_version + code_changed,
            )

    lines = [f"{row.name}: {line}" for line in change.extends]
    again: Collection[TrialState] = ()
    if code_changed:
        again = FINAL_STATES if main_changed == "rerun" else RETRIED[None]
        count = sum(trial.state in again for trial in trials)
        lines.append(
            f"{row.name}: MAIN has changed, its version {row.main_version + 1} runs from now on; "
            f"{counted(len(trials) - count, 'row')} as they are, {count} run again"
        )
    return Declared(lines, write, again)


def _which_way(name: str, finished: int) -> str:
    """The sentence for a changed MAIN beside finished rows, with the ways to go on, ready to paste."""
    return (
        f"The sweep {name!r} has {counted(finished, 'finished row')}, and the code or the files of MAIN have changed "
        "since. Say what becomes of them:\n"
        '  they stay, all others run the new MAIN: declare(..., main_changed="keep"), or submit --main-changed keep\n'
        '  all rows run again: declare(..., main_changed="rerun"), or submit --main-changed rerun\n'
        "  the new MAIN is another sweep: declare it under another name, or submit --set name=ANOTHER"
    )


def _code_fingerprint(main: str) -> str:
    from raycolab.main.notebook import MainNotebook  # nbformat, which only a declaration needs

    return MainNotebook.from_json(main).code_fingerprint()


def _check_fits(spec: SweepSpec, main: str) -> None:
    from raycolab.main.notebook import MainNotebook

    check_fits(spec, MainNotebook.from_json(main).signature())


def answer(store: Store, request: Question) -> Any:
    """What a question that changes nothing is answered with."""
    match request:
        case Find():
            return _found(store, store.existing_sweep(request.sweep), with_main=request.with_main)
        case ListSweeps():
            damaged = [SweepRow(0, name, SweepState.HELD, "", None, "", None, 0.0) for name in store.damaged_sweeps()]
            return [_found(store, row) for row in (*store.sweeps(), *damaged)]
        case ReadRows():
            return _page(store, request)
        case ReadOutput():
            return _output(store, request)


def _found(store: Store, row: SweepRow, *, with_main: bool = False) -> FoundSweep:
    """A sweep as it stands in the store."""
    shown = row if with_main else replace(row, main=None)
    return FoundSweep(shown, store.counts(row.id), database=store.location, beside=store.beside)


def _page(store: Store, request: ReadRows) -> Page:
    """The next rows of a sweep's table."""
    rows: Sequence[Any]
    match request.table:
        case "trials":
            after = -1 if request.after is None else request.after[0]
            rows = [
                row if row.state not in _WITHOUT_OUTPUT else replace(row, output=None)
                for row in store.trials(request.sweep_id, after=after, limit=_PAGE_ROWS)
            ]
        case "attempts":
            rows = store.attempts(request.sweep_id, after=request.after, limit=_PAGE_ROWS)
        case "reports":
            rows = store.report_rows(request.sweep_id, after=request.after, limit=_PAGE_ROWS)
    return page_of(request.table, rows, more=len(rows) == _PAGE_ROWS)


def _output(store: Store, request: ReadOutput) -> str:
    """The last lines that a trial printed; UsageError when there is no such trial."""
    sweep = store.existing_sweep(request.sweep)
    for row in store.trials(sweep.id, after=request.number - 1, limit=1):
        if row.number == request.number:
            return row.output or ""
    total = sum(store.counts(sweep.id).values())
    raise UsageError(f"The sweep {sweep.name!r} has no trial {request.number}: give a number from 0 to {total - 1}.")


def drop_archives(store: Store, archives: Archives) -> None:
    """Remove the files of sweeps that are no more."""
    from raycolab.main.notebook import MainNotebook

    try:
        origins = [MainNotebook.from_json(sweep.main).origin for sweep in store.sweeps() if sweep.main]
    except RaycolabError:  # a row is damaged: what it needs is not known
        return
    archives.keep_only({origin.files.digest for origin in origins if origin.files is not None})


def retry_rows(store: Store, sweep: SweepRow, states: Iterable[TrialState]) -> int:
    """Make these final trials PENDING; how many that are."""
    book = _book(store, sweep)
    numbers = book.retry(states)
    _write(store, sweep, book)
    return len(numbers)


def cancel_rows(store: Store, sweep: SweepRow, state: SweepState, now: float) -> None:
    """Cancel every trial that is not final, and leave the sweep in this state."""
    book = _book(store, sweep)
    for number in sorted(book.unfinished):
        if number in book.unfinished and not book.is_follower(number):
            book.cancel(number, now)
    _write(store, sweep, book)
    store.update_sweep(sweep.id, state=state)


def check(sweep: SweepRow, rows: Sequence[TrialRow]) -> None:
    """Raise DamagedRowError where what is stored cannot be run to an end, though each row by itself can be read."""
    from raycolab.main.notebook import MainNotebook

    spec = SweepSpec.from_json(sweep.spec)
    try:
        MainNotebook.from_json(sweep.main or "")
    except UsageError as error:
        raise DamagedRowError(
            f"the MAIN of the sweep {sweep.name!r} in the database cannot be read: {error}"
        ) from error
    for row in rows:
        is_known = row.state in FINAL_STATES or (row.model in spec.models and row.dataset in spec.datasets)
        if not is_known or (row.same_as is not None and row.same_as >= row.number):
            odd = f"same_as is {row.same_as}" if is_known else f"model x dataset is {row.model!r} x {row.dataset!r}"
            raise DamagedRowError(
                f"trial {row.number} of the sweep {sweep.name!r} is damaged: its {odd}. Correct it there, delete the "
                "sweep, or go on from a copy of the database."
            )


def has_work(store: Store, sweep: SweepRow) -> bool:
    """Whether any trial is not final."""
    return any(count for state, count in store.counts(sweep.id).items() if state not in FINAL_STATES)


def queued_sweeps(store: Store) -> list[SweepRow]:
    """The sweeps that were at work or waiting when the last engine stopped: the one at work first."""
    queued = [sweep for sweep in store.sweeps() if sweep.state in (SweepState.RUNNING, SweepState.QUEUED)]
    return sorted(queued, key=lambda sweep: (sweep.state != SweepState.RUNNING, sweep.id))


def stored_status(store: Store, sweep: SweepRow, sentence: str | None) -> SweepStatus:
    """Where a resting sweep stands."""
    return status_of(sweep, store.trials(sweep.id), store.attempts(sweep.id), sentence)


def status_of(
    sweep: SweepRow, trials: Sequence[TrialRow], attempts: Sequence[AttemptRow], sentence: str | None
) -> SweepStatus:
    """Where a sweep with these rows stands while it is at rest."""
    metric = SweepSpec.from_json(sweep.spec).metric
    book = TrialBook(trials, attempts, metric)
    return SweepStatus.of(
        *(sweep.name, sweep.state, dict(book.counts), metric, book.best, None, sentence, book.tally),
        setup_failures=sweep.setup_failures,
    )


def plain_status(store: Store, sweep: SweepRow, sentence: str | None) -> SweepStatus:
    """The same of a sweep whose rows or whose spec cannot be made sense of: its counts alone."""
    return SweepStatus.of(sweep.name, sweep.state, store.counts(sweep.id), Metric("metric"), sentence=sentence)


def _book(store: Store, sweep: SweepRow) -> TrialBook:
    metric = SweepSpec.from_json(sweep.spec).metric
    return TrialBook(store.trials(sweep.id), store.attempts(sweep.id), metric)


def _write(store: Store, sweep: SweepRow, book: TrialBook) -> None:
    write = book.take_write()
    if write is not None:
        store.write(sweep.id, write.trials, write.attempts, write.reports)
