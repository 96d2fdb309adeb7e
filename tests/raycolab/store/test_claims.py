"""One head per sweep, over both stores: who has it is told, who lost it writes nothing, a dead head is no obstacle."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import threading

import pytest

from raycolab.errors import UnknownSweepError
from raycolab.store import ClaimLostError, Store, open_store
from raycolab.trials import AttemptRow, SweepRow, SweepState, TrialRow, TrialState

NOW = 1_795_379_400.25
STALE_S = 60.0


def make_sweep(store: Store, name: str = "digits") -> SweepRow:
    """A sweep of two pending trials."""
    trials = [TrialRow(number, "svc", "iris", {"C": 1.0}) for number in range(2)]
    return store.create_sweep(name, "{}", None, "aa", None, {}, trials, NOW)


def finished(store: Store, sweep: SweepRow, number: int = 0) -> TrialRow:
    """One of its trials, COMPLETE."""
    return dataclasses.replace(store.trials(sweep.id)[number], state=TrialState.COMPLETE)


def test_a_sweep_is_the_first_heads_that_claims_it(url: str) -> None:
    """The second is told which machine has it, when that was heard of, and both ways on; other sweeps are free."""
    with open_store(url) as first, open_store(url) as second:
        sweep, other = make_sweep(first), make_sweep(first, "other")
        assert first.claim(sweep.id, "a", NOW, STALE_S, machine="tab-1") is None
        assert second.claim(sweep.id, "b", NOW + 12, STALE_S) == (
            "the sweep 'digits' is being run by the head on tab-1, last heard of 12 s ago: "
            "stop it there, or wait until it has been silent for 1 min."
        )
        assert second.claim(other.id, "b", NOW, STALE_S) is None


def test_a_claim_is_renewed_by_claiming_and_by_writing(url: str) -> None:
    """As long as it is heard of within the time, nobody takes it over."""
    with open_store(url) as first, open_store(url) as second:
        sweep = make_sweep(first)
        assert first.claim(sweep.id, "a", NOW, STALE_S) is None
        assert first.claim(sweep.id, "a", NOW + 50, STALE_S) is None
        assert second.claim(sweep.id, "b", NOW + 100, STALE_S) is not None
        first.write(sweep.id, [finished(first, sweep)], now=NOW + 105)
        assert second.claim(sweep.id, "b", NOW + 160, STALE_S) is not None
        first.write(sweep.id, [finished(first, sweep)])  # without a time it is no sign of life
        assert second.claim(sweep.id, "b", NOW + 166, STALE_S) is None


def test_what_is_released_is_free_at_once(url: str) -> None:
    """Only its owner can release it; doing so twice changes nothing."""
    with open_store(url) as first, open_store(url) as second:
        sweep = make_sweep(first)
        assert first.claim(sweep.id, "a", NOW, STALE_S) is None
        second.release(sweep.id, "b")
        assert second.claim(sweep.id, "b", NOW, STALE_S) is not None
        first.release(sweep.id, "a")
        first.release(sweep.id, "a")
        assert second.claim(sweep.id, "b", NOW, STALE_S) is None


def test_a_head_that_lost_its_claim_writes_nothing(url: str) -> None:
    """It slept, another took over: rows, reports and state are the other's, and the sentence names its machine."""
    with open_store(url) as first, open_store(url) as second:
        sweep = make_sweep(first)
        first.claim(sweep.id, "a", NOW, STALE_S, machine="tab-1")
        second.claim(sweep.id, "b", NOW + 61, STALE_S, machine="tab-2")
        late = finished(first, sweep)
        for now in (None, NOW + 62):
            with pytest.raises(ClaimLostError, match=r"no longer runs the sweep: the head on tab-2 has taken it over"):
                first.write(sweep.id, [late], [AttemptRow(0, 1, "head", "COMPLETE", NOW, NOW)], now=now)
        with pytest.raises(ClaimLostError):
            first.update_sweep(sweep.id, state=SweepState.COMPLETE)
        assert second.counts(sweep.id)[TrialState.PENDING] == 2
        assert second.attempts(sweep.id) == []
        assert second.existing_sweep("digits").state is SweepState.DECLARED
        second.write(sweep.id, [late])
        assert first.counts(sweep.id)[TrialState.COMPLETE] == 1


def test_a_head_that_was_told_no_is_fenced_no_longer(url: str) -> None:
    """It may extend the sweep as any process may that never claimed it."""
    with open_store(url) as first, open_store(url) as second:
        sweep = make_sweep(first)
        first.claim(sweep.id, "a", NOW, STALE_S)
        second.claim(sweep.id, "b", NOW + 61, STALE_S)
        assert first.claim(sweep.id, "a", NOW + 62, STALE_S) is not None
        first.write(sweep.id, [TrialRow(2, "svc", "iris", {"C": 2.0})])
        assert len(second.trials(sweep.id)) == 3


def test_a_deleted_sweep_cannot_be_claimed_nor_written(url: str) -> None:
    """Its claim went with it."""
    with open_store(url) as store:
        sweep = make_sweep(store)
        trial = finished(store, sweep)
        store.claim(sweep.id, "a", NOW, STALE_S)
        store.delete_sweep("digits")
        sentence = r"^the sweep 'digits' is no longer in .*: it was deleted\. Declare it again to start anew\.$"
        with pytest.raises(UnknownSweepError, match=sentence):
            store.write(sweep.id, [trial])
        with pytest.raises(UnknownSweepError, match=sentence):
            store.claim(sweep.id, "a", NOW, STALE_S)


def test_of_many_that_claim_at_once_one_has_it(url: str) -> None:
    """The others are all told so, none meets an error."""
    with open_store(url) as store:
        sweep = make_sweep(store)
        answers: list[str | None] = []
        together = threading.Barrier(8)

        def claim(owner: str) -> None:
            with open_store(url) as mine:
                together.wait(timeout=60)
                answers.append(mine.claim(sweep.id, owner, NOW, STALE_S))

        threads = [threading.Thread(target=claim, args=(f"head-{number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers.count(None) == 1
    assert sum(answer is not None and "is being run by" in answer for answer in answers) == 7


HEAD = """
import dataclasses, sys
from raycolab.store import ClaimLostError, open_store
from raycolab.trials import TrialState

store, now = open_store(sys.argv[1]), float(sys.argv[2])
sweep = store.existing_sweep("digits")
print(store.claim(sweep.id, "other process", now, 60.0, machine="tab-1") or "mine", flush=True)
sys.stdin.readline()
rows = [dataclasses.replace(row, state=TrialState.LOST) for row in store.trials(sweep.id)]
try:
    store.write(sweep.id, rows)
except ClaimLostError as error:
    print(error, flush=True)
sys.stdin.readline()
"""


def test_two_processes_take_turns_and_corrupt_nothing(url: str) -> None:
    """The first runs it; stopped for too long it is replaced, and what it writes when it wakes changes no row."""
    with open_store(url) as store:
        sweep = make_sweep(store)
        command = [sys.executable, "-c", HEAD, url, str(NOW)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as head:
            assert head.stdin is not None
            assert head.stdout is not None
            assert head.stdout.readline() == "mine\n"
            assert store.claim(sweep.id, "us", NOW + 1, STALE_S) is not None
            head.send_signal(signal.SIGSTOP)
            assert store.claim(sweep.id, "us", NOW + 90, STALE_S, machine="tab-2") is None
            store.write(sweep.id, [finished(store, sweep, number) for number in range(2)])
            head.send_signal(signal.SIGCONT)
            head.stdin.write("go on\n")
            head.stdin.flush()
            assert "the head on tab-2 has taken it over" in head.stdout.readline()
            head.kill()
        assert store.counts(sweep.id)[TrialState.COMPLETE] == 2
