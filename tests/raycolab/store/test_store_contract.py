"""What every store promises, run over each: SQLite, and a PostgreSQL server that the tests start themselves."""

from __future__ import annotations

import dataclasses
import math
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from raycolab.errors import RaycolabError, UnknownSweepError, UsageError
from raycolab.store import DamagedRowError, Store, StoreOutageError, open_store
from raycolab.store.opening import open_engine, writing
from raycolab.trials import AttemptRow, ErrorKind, ReportRow, SweepRow, SweepState, TrialRow, TrialState

NOW = 1_795_379_400.25
NO_VALUE = (
    r"the database .* (cannot hold a value \(.*\), and nothing was written|answered with an error \(.*out of range)"
)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An open, empty store."""
    with open_store(url) as opened:
        yield opened


def pending(count: int, start: int = 0) -> list[TrialRow]:
    """Trials as a search proposes them."""
    return [TrialRow(number, "svc", "iris", {"C": number / 8}) for number in range(start, start + count)]


def complete(trial: TrialRow) -> TrialRow:
    """The same trial, finished."""
    return dataclasses.replace(
        trial,
        state=TrialState.COMPLETE,
        metrics={"accuracy": 0.5},
        node="joiner-1",
        attempts=1,
        started_at=NOW,
        ended_at=NOW + 1.5,
    )


def make_sweep(store: Store, name: str = "digits", trials: int = 4) -> SweepRow:
    """A sweep with pending trials."""
    return store.create_sweep(name, '{"seed":0}', "{}", "aa", "bb", {"ray": "2.60.0"}, pending(trials), NOW)


def test_a_created_sweep_is_read_back_as_it_was_given(store: Store) -> None:
    """Name, declaration, MAIN, fingerprints, versions and time come back equal, and the sweep is DECLARED."""
    sweep = make_sweep(store)
    assert sweep == SweepRow(
        sweep.id, "digits", SweepState.DECLARED, '{"seed":0}', "{}", "aa", "bb", NOW, {"ray": "2.60.0"}
    )
    assert store.sweep("digits") == sweep
    assert store.existing_sweep("digits") == sweep
    assert store.sweep("other") is None


def test_sweeps_are_listed_in_the_order_of_declaration(store: Store) -> None:
    """Not by name: the last one is what a person works on."""
    for name in ("zebra", "ant", "mole"):
        make_sweep(store, name)
    assert [sweep.name for sweep in store.sweeps()] == ["zebra", "ant", "mole"]


def test_a_taken_name_is_refused_and_nothing_is_added(store: Store) -> None:
    """The sentence names the sweep and both ways on."""
    sweep = make_sweep(store)
    with pytest.raises(
        UsageError, match=r"'digits' is already in .*: declare it again to go on with it, or choose another"
    ):
        make_sweep(store, trials=9)
    assert store.sweeps() == [sweep]
    assert len(store.trials(sweep.id)) == 4


def test_a_name_too_long_for_an_index_is_refused_everywhere(store: Store) -> None:
    """The bound is the same on every database."""
    with pytest.raises(UsageError, match="a sweep's name has at most 255 characters, this one 256: shorten it"):
        make_sweep(store, "n" * 256)


def test_every_field_of_a_trial_comes_back(store: Store) -> None:
    """Configuration order, NaN, infinities, unicode, errors and links to an earlier trial survive the database."""
    sweep = make_sweep(store, trials=0)
    rows = [
        TrialRow(0, "svc", "ir\u012bs", None),
        TrialRow(
            number=1,
            model="forest",
            dataset="wine",
            config={"z": 1, "a/b": None, "flag": True, "text": 'q"\u00e4', "big": 2**70, "nan": float("inf")},
            state=TrialState.FAILED,
            metrics={"loss": float("-inf"), "n": 3},
            node="head",
            attempts=2,
            started_at=NOW,
            ended_at=NOW + 0.000001,
            error_kind=ErrorKind.BAD_RETURN,
            error="ValueError: bad (cell 7)",
            traceback="Cell 7\n\tline 2",
            cell_index=7,
            output="x\n" * 50,
            same_as=0,
            seed=2**32 - 1,
            main_version=2,
        ),
    ]
    store.write(sweep.id, rows)
    found = store.trials(sweep.id)
    assert found == rows
    assert list(found[1].config or {}) == ["z", "a/b", "flag", "text", "big", "nan"]


def test_a_nan_metric_comes_back_as_nan(store: Store) -> None:
    """NaN is a result, not an absence."""
    sweep = make_sweep(store, trials=0)
    store.write(sweep.id, [TrialRow(0, "svc", "iris", {}, TrialState.COMPLETE, {"accuracy": float("nan")})])
    value = store.trials(sweep.id)[0].metrics["accuracy"]
    assert isinstance(value, float)
    assert value != value


def test_output_a_database_refuses_is_made_printable(store: Store) -> None:
    """A NUL or a lone surrogate that a trial printed costs that character, never the row."""
    sweep = make_sweep(store, trials=0)
    store.write(sweep.id, [TrialRow(0, "svc", "iris", {}, output="a\0b\udcffc", error="\0")])
    trial = store.trials(sweep.id)[0]
    assert (trial.output, trial.error) == ("a\ufffdb\ufffdc", "\ufffd")


def test_a_write_repeated_changes_nothing(store: Store) -> None:
    """Reports are repeated until acknowledged; the database must not care."""
    sweep = make_sweep(store)
    trials = [complete(trial) for trial in pending(2)]
    attempts = [AttemptRow(0, 1, "head", "LOST", NOW, NOW + 1, "node gone"), AttemptRow(0, 2, "head", "RUNNING", NOW)]
    for _ in range(3):
        store.write(sweep.id, trials, attempts)
    assert store.trials(sweep.id) == [*trials, *pending(2, 2)]
    assert store.attempts(sweep.id) == attempts


def test_the_last_row_of_a_number_stands(store: Store) -> None:
    """Within one write and over several, a row replaces the earlier one whole."""
    sweep = make_sweep(store)
    first = pending(1)[0]
    store.write(sweep.id, [dataclasses.replace(first, state=TrialState.RUNNING, node="head"), complete(first)])
    assert store.trials(sweep.id)[0] == complete(first)
    store.write(sweep.id, [first])
    assert store.trials(sweep.id)[0] == first


def test_attempts_come_by_trial_and_number_and_end_in_place(store: Store) -> None:
    """An attempt is written RUNNING, then once more when it ends: one row."""
    sweep = make_sweep(store)
    running = AttemptRow(2, 1, "joiner-2", "RUNNING", NOW)
    ended = dataclasses.replace(running, outcome="LOST", ended_at=NOW + 3, reason="joiner-2 is gone")
    store.write(sweep.id, [], [AttemptRow(3, 1, "head", "RUNNING", NOW), running])
    store.write(sweep.id, [], [ended, AttemptRow(2, 2, "head", "RUNNING", NOW)])
    assert [(row.trial, row.number) for row in store.attempts(sweep.id)] == [(2, 1), (2, 2), (3, 1)]
    assert store.attempts(sweep.id)[0] == ended


def test_a_write_is_whole_or_not_at_all(store: Store) -> None:
    """An attempt at a trial that does not exist, or a report of one, takes the trials of the same write with it."""
    sweep = make_sweep(store)
    done = [complete(pending(1)[0])]
    with pytest.raises(RaycolabError, match=r"^attempt 1 at trial 99 cannot be stored: the sweep has no such trial"):
        store.write(sweep.id, done, [AttemptRow(99, 1, "head", "RUNNING", NOW)])
    with pytest.raises(RaycolabError, match="a report of trial 99 cannot be stored"):
        store.write(sweep.id, done, [], [ReportRow(0, 1, 0.5), ReportRow(99, 1, 0.5)])
    assert store.trials(sweep.id) == pending(4)
    assert store.reports(sweep.id) == {}


def test_more_rows_than_a_statement_takes_parameters(store: Store) -> None:
    """A write may be of any size."""
    sweep = make_sweep(store, trials=0)
    store.write(sweep.id, pending(1_234))
    done = [complete(trial) for trial in pending(1_300)]
    store.write(sweep.id, done, [AttemptRow(trial.number, 1, "head", "COMPLETE", NOW, NOW) for trial in done])
    assert store.trials(sweep.id) == done
    assert len(store.attempts(sweep.id)) == 1_300


def test_reports_come_by_trial_and_step(store: Store) -> None:
    """Infinities and NaN included; trials without any are left out, other sweeps too."""
    sweep, other = make_sweep(store), make_sweep(store, "other")
    store.write(other.id, [], [], [ReportRow(0, 1, 9.0)])
    store.write(sweep.id, [], [], [ReportRow(2, 10, 0.5), ReportRow(2, 1, -math.inf), ReportRow(0, 2**40, math.nan)])
    found = store.reports(sweep.id)
    assert list(found) == [0, 2]
    assert math.isnan(found[0].pop(2**40))
    assert (found[0], list(found[2].items())) == ({}, [(1, -math.inf), (10, 0.5)])


def test_a_step_reported_again_replaces_its_value(store: Store) -> None:
    """Within one write and over several."""
    sweep = make_sweep(store)
    for _ in range(2):
        store.write(sweep.id, [], [], [ReportRow(1, 3, 0.1), ReportRow(1, 3, 0.2), ReportRow(1, 4, 0.3)])
    store.write(sweep.id, [], [], [ReportRow(1, 4, 0.4)])
    assert store.reports(sweep.id) == {1: {3: 0.2, 4: 0.4}}


def test_a_trial_that_starts_again_has_reported_nothing(store: Store) -> None:
    """Whether it waits, or runs another time; others keep what they reported, and so does one that ends."""
    sweep = make_sweep(store)
    rows = [dataclasses.replace(row, state=TrialState.RUNNING, attempts=1) for row in pending(4)]
    store.write(sweep.id, rows, [], [ReportRow(number, 1, 0.5) for number in range(4)])
    waits, runs, ends = (
        dataclasses.replace(rows[0], state=TrialState.PENDING),
        dataclasses.replace(rows[1], attempts=2),
        complete(rows[2]),
    )
    store.write(sweep.id, [waits, runs, ends], [], [ReportRow(1, 7, 0.7)])
    assert store.reports(sweep.id) == {1: {7: 0.7}, 2: {1: 0.5}, 3: {1: 0.5}}


def test_a_value_no_column_holds_takes_the_whole_write_with_it(store: Store) -> None:
    """It is refused with a sentence, as an error that repeating does not mend, and whoever writes goes on."""
    sweep = make_sweep(store)
    named = dataclasses.replace(pending(1)[0], node="lone \udcff")
    for trials, reports in (([complete(pending(1)[0])], [ReportRow(0, 2**70, 0.5)]), ([named], [])):
        with pytest.raises(RaycolabError, match=NO_VALUE) as caught:
            store.write(sweep.id, trials, [], reports)
        assert not isinstance(caught.value, StoreOutageError)
    assert store.trials(sweep.id) == pending(4)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            "trials SET state = 'DNOE' WHERE number = 2",
            r"trial 2 of the sweep 'digits' is damaged: its state is 'DNOE'",
        ),
        (
            "trials SET metrics = '{\"accuracy\": 0' WHERE number = 3",
            r"trial 3 of the sweep 'digits' is damaged: its me",
        ),
        (
            "trials SET config = '[1]' WHERE number = 0",
            r"trial 0 of the sweep 'digits' is damaged: its config is '\[1\]'",
        ),
        (
            "trials SET ended_at = 'noon' WHERE number = 1",
            r"trial 1 of .* its ended_at is 'noon'\. Correct it there, de",
        ),
        ("attempts SET started_at = 'noon'", r"attempt 1 at trial 0 of the sweep 'digits' is damaged: its started_at"),
        ("sweeps SET versions = 'x'", r"the row 'digits' of the sweeps in .* is damaged: its versions is 'x'"),
    ],
)
def test_a_row_that_somebody_damaged_is_named(url: str, change: str, sentence: str) -> None:
    """Sweep, row and column, in one sentence, instead of an error from the midst of reading it."""
    with open_store(url) as store:
        sweep = make_sweep(store)
        store.write(sweep.id, [], [AttemptRow(0, 1, "head", "RUNNING", NOW)])
        with writing(open_engine(url)) as connection:
            connection.exec_driver_sql(f"UPDATE {change}")
        with pytest.raises(DamagedRowError, match=sentence):
            _ = (store.existing_sweep(sweep.name), store.attempts(sweep.id), store.trials(sweep.id))


def test_counts_name_every_state(store: Store) -> None:
    """Zeros included, for this sweep alone."""
    sweep = make_sweep(store)
    make_sweep(store, "other", trials=9)
    store.write(sweep.id, [complete(pending(1)[0])])
    counts = store.counts(sweep.id)
    assert set(counts) == set(TrialState)
    assert {state: count for state, count in counts.items() if count} == {
        TrialState.PENDING: 3,
        TrialState.COMPLETE: 1,
    }


def test_an_update_changes_what_is_given_only(store: Store) -> None:
    """The state moves often, the declaration when a sweep is extended."""
    sweep = make_sweep(store)
    store.update_sweep(sweep.id, state=SweepState.RUNNING)
    assert store.sweep("digits") == dataclasses.replace(sweep, state=SweepState.RUNNING)
    store.update_sweep(sweep.id, spec="{}", main="[]", spec_fingerprint="cc", code_fingerprint="dd", main_version=2)
    assert store.sweep("digits") == SweepRow(
        *(sweep.id, "digits", SweepState.RUNNING, "{}", "[]", "cc", "dd", NOW, sweep.versions), main_version=2
    )


def test_a_deleted_sweep_leaves_nothing_and_frees_its_name(store: Store) -> None:
    """Trials, attempts and reports go with it; the other sweep keeps its own."""
    sweep, other = make_sweep(store), make_sweep(store, "other")
    for each in (sweep, other):
        store.write(each.id, [], [AttemptRow(0, 1, "head", "RUNNING", NOW)], [ReportRow(0, 1, 0.5)])
    store.delete_sweep("digits")
    assert store.trials(sweep.id) == []
    assert store.attempts(sweep.id) == []
    assert store.reports(sweep.id) == {}
    assert (len(store.attempts(other.id)), len(store.reports(other.id))) == (1, 1)
    assert make_sweep(store).id != sweep.id


def test_writing_to_a_deleted_sweep_fails_with_a_sentence(store: Store) -> None:
    """A writer that still holds its id must not revive it, nor write into a sweep declared since."""
    sweep = make_sweep(store)
    store.delete_sweep("digits")
    with pytest.raises(RaycolabError, match=r"refused a row \(.*\): its sweep was deleted, or another head writes it"):
        store.write(sweep.id, pending(1))
    with pytest.raises(UnknownSweepError, match=r"the sweep 'digits' is no longer in .*: it was deleted"):
        store.update_sweep(sweep.id, state=SweepState.RUNNING)


def test_an_unknown_name_is_answered_with_those_there_are(store: Store) -> None:
    """The sentence says where was looked, what was probably meant and what there is."""
    with pytest.raises(UnknownSweepError, match="submit or declare one first"):
        store.delete_sweep("digits")
    make_sweep(store)
    make_sweep(store, "wine")
    with pytest.raises(UnknownSweepError, match=r"no sweep named 'digit' .*'digits'.*there is digits, wine"):
        store.existing_sweep("digit")


def test_threads_write_through_one_store(store: Store) -> None:
    """Writers wait for each other; nothing is lost."""
    sweep = make_sweep(store, trials=200)
    rows = store.trials(sweep.id)

    def write(part: int) -> None:
        for trial in rows[part::4]:
            store.write(sweep.id, [complete(trial)], [AttemptRow(trial.number, 1, "head", "COMPLETE", NOW, NOW)])

    threads = [threading.Thread(target=write, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.counts(sweep.id)[TrialState.COMPLETE] == 200
    assert len(store.attempts(sweep.id)) == 200


WRITER = """
import dataclasses, os, signal, sys
from raycolab.store import open_store
from raycolab.trials import TrialState

store = open_store(sys.argv[1])
sweep = store.existing_sweep("digits")
trials = [dataclasses.replace(row, state=TrialState.COMPLETE) for row in store.trials(sweep.id)]
store.write(sweep.id, trials[:3])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_committed_survives_a_killed_process(url: str) -> None:
    """A process that dies right after `write` returned has written."""
    with open_store(url) as store:
        sweep = make_sweep(store)
    done = subprocess.run([sys.executable, "-c", WRITER, url], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    with open_store(url) as store:
        assert store.counts(sweep.id)[TrialState.COMPLETE] == 3


OPENER = """
import sys
from raycolab.store import open_store

sys.stdin.readline()  # everybody at once
with open_store(sys.argv[1]) as store:
    store.create_sweep(sys.argv[2], "{}", None, "aa", None, {}, [], 0.0)
"""


def test_processes_that_open_a_new_database_at_once_all_succeed(url: str) -> None:
    """The tables are made once, whoever comes first."""
    openers = [
        subprocess.Popen([sys.executable, "-c", OPENER, url, f"s{number}"], stdin=subprocess.PIPE)
        for number in range(4)
    ]
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write(b"go\n")
        opener.stdin.flush()
    codes = [opener.wait(timeout=60) for opener in openers]
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.close()
    assert codes == [0, 0, 0, 0]
    with open_store(url) as store:
        assert sorted(sweep.name for sweep in store.sweeps()) == ["s0", "s1", "s2", "s3"]
