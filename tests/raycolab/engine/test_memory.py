"""Trials that run out of memory: one more try where there is most of it for a slot, then FAILED with kind oom."""

from __future__ import annotations

import pytest

from raycolab.engine.book import TrialBook
from raycolab.engine.dispatch import NodeMemory, Slot
from raycolab.engine.guards import BENCH_AFTER
from raycolab.engine.messages import LossCause
from raycolab.trials import ErrorKind, Failure, TrialState
from tests.raycolab.engine.script import Script, error, proven, trials

GIB = 2**30
KILLED = "its process was killed because the node ran out of memory"


def cluster(script: Script, *nodes: tuple[str, int | None, int]) -> None:
    """Nodes with their memory in GiB and so many slots each."""
    for node, gib, slots in nodes:
        script.core.node_up(node, script.now, None if gib is None else gib * GIB)
        script.up(*(f"{node}.{number}" for number in range(1, slots + 1)))


def run_out(script: Script, slot: str) -> int:
    """The slot's next trial starts and takes its process down; its number."""
    number = script.start(slot).number
    script.core.slot_down(slot, LossCause.OOM, script.now, KILLED)
    script.handed[slot].clear()
    script.pump()
    return number


def test_memory_is_counted_per_slot() -> None:
    """A small node with one slot has more for a trial than a large one with many; the most slots seen count."""
    memory = NodeMemory()
    memory.node_up("small", 4)
    memory.node_up("large", 12)
    memory.node_up("unknown", None)
    memory.slots_on("large", 4)
    memory.slots_on("large", 3)
    assert memory.roomiest(["small", "large", "unknown"]) == {"small"}
    assert memory.roomiest(["large", "unknown"]) == {"large"}
    assert memory.roomiest(["unknown"]) == frozenset()
    memory.node_lost("small")
    assert memory.roomiest(["small", "large"]) == {"large"}


def test_it_is_tried_once_more_where_there_is_most_memory_for_a_slot() -> None:
    """It waits for that node though others are free; its first attempt and its row say why meanwhile."""
    script = proven(9)
    cluster(script, ("a", 4, 1), ("many", 16, 4), ("roomy", 8, 1))
    number = run_out(script, "a.1")
    row = script.stored[number]
    assert (row.state, row.error_kind, row.attempts) == (TrialState.PENDING, ErrorKind.OOM, 1)
    assert (row.node, row.started_at, row.ended_at) == (None, None, None)
    assert row.error == f"OutOfMemory: {KILLED}"
    first = script.attempts[number, 1]
    assert (first.outcome, first.node, first.reason) == (TrialState.FAILED, "a", row.error)
    script.up("b.1")
    holders = [slot for slot in script.handed if number in script.numbers(slot)]
    assert holders in ([], ["roomy.1"])
    while script.numbers("roomy.1")[0] != number:
        script.end("roomy.1")
    script.end("roomy.1")
    row = script.stored[number]
    assert (row.state, row.error_kind, row.error, row.node) == (TrialState.COMPLETE, None, None, "roomy")
    assert script.attempts[number, 2].outcome == TrialState.COMPLETE


def test_the_second_time_it_is_failed() -> None:
    """Two attempts, both FAILED, and the kind is oom; what was held ahead goes back uncharged."""
    script = proven(3)
    cluster(script, ("a", 4, 1))
    ahead = script.numbers("a.1")[1]
    number = run_out(script, "a.1")
    script.up("a.2")
    assert script.numbers("a.2") == [number], "nothing is queued behind it"
    assert run_out(script, "a.2") == number
    row = script.stored[number]
    assert (row.state, row.error_kind, row.attempts) == (TrialState.FAILED, ErrorKind.OOM, 2)
    assert [script.attempts[number, each].outcome for each in (1, 2)] == [TrialState.FAILED] * 2
    assert (script.stored[ahead].state, script.stored[ahead].attempts) == (TrialState.PENDING, 0)


def test_without_figures_it_goes_to_another_node() -> None:
    """As a trial that was lost does."""
    script = proven(1)
    cluster(script, ("a", None, 1))
    script.up("b.1")
    number = run_out(script, "a.1")
    assert script.numbers("b.1") == [number]


def test_a_node_that_is_benched_or_gone_is_not_waited_for() -> None:
    """The roomiest of those that are left takes it."""
    script = proven(1)
    cluster(script, ("a", 4, 1), ("b", 4, 1), ("roomy", 64, 1))
    holder = next(slot for slot in ("a.1", "b.1", "roomy.1") if script.numbers(slot))
    number = run_out(script, holder)
    script.core.node_lost("roomy", script.now)
    script.pump()
    assert [slot for slot in ("a.1", "b.1") if number in script.numbers(slot)]


def test_a_memory_error_in_python_is_the_same_kind() -> None:
    """Its process lives, and the trial is tried once more too."""
    script = proven(1)
    script.up("a.1")
    failure = Failure(ErrorKind.OOM, "MemoryError", "")
    script.end("a.1", failure)
    assert script.stored[0].state is TrialState.PENDING
    script.end("a.1", failure)
    assert (script.stored[0].state, script.stored[0].error_kind) == (TrialState.FAILED, ErrorKind.OOM)


def test_of_two_equal_nodes_it_goes_to_the_other() -> None:
    """Also after another start of the head."""
    script = proven(1)
    cluster(script, ("a", 8, 1))
    run_out(script, "a.1")
    script = Script(list(script.stored.values()), list(script.attempts.values()))
    cluster(script, ("a", 8, 1))
    cluster(script, ("b", 8, 1))
    assert script.numbers("a.1") == [0], "it is alone"
    script.core.node_lost("a", script.now)
    script.pump()
    script = Script(list(script.stored.values()), list(script.attempts.values()), wait_for_slots=2)
    cluster(script, ("a", 8, 1), ("b", 8, 1))
    assert (script.numbers("a.1"), script.numbers("b.1")) == ([], [0])


def test_a_node_whose_last_slot_is_being_killed_is_not_waited_for() -> None:
    """Nor one that is benched: another slot takes the trial."""
    script = proven(1, setup_timeout_s=5.0)
    cluster(script, ("a", 4, 1))
    script.core.node_up("roomy", script.now, 64 * GIB)
    script.core.slot_starting(Slot("roomy.1", "roomy"), script.now)
    number = run_out(script, "a.1")
    script.up("a.2")
    assert script.numbers("a.2") == [], "roomy may come up"
    script.now += 5.0
    script.core.tick(script.now)
    script.core.slot_down("roomy.1", LossCause.KILLED, script.now)
    script.pump()
    assert script.numbers("a.2") == [number]


def test_a_benched_node_is_not_waited_for() -> None:
    """However much memory it has."""
    script = proven(60)
    cluster(script, ("good", 4, 2), ("bad", 64, 1))
    script.end("good.1")
    number = script.start("good.2").number
    for turn in range(BENCH_AFTER):
        script.end("bad.1", error(f"no GPU {turn}"))
    script.core.slot_down("good.2", LossCause.OOM, script.now, KILLED)
    script.pump()
    assert script.stored[number].state is TrialState.PENDING
    while number not in script.numbers("good.1"):
        assert script.numbers("good.1"), "it waits for the benched node"
        script.end("good.1")


def test_a_node_that_comes_back_is_another_machine() -> None:
    """How many slots there were before says nothing."""
    script = proven(1)
    cluster(script, ("a", 4, 1), ("b", 8, 4))
    script.core.node_lost("b", script.now)
    script.core.node_up("b", script.now, 8 * GIB)
    script.up("b.new")
    cluster(script, ("c", 4, 1))
    number = run_out(script, "a.1")
    assert script.numbers("b.new") == [number]


def test_what_is_cancelled_while_it_waits_says_nothing_of_memory() -> None:
    """The attempt does."""
    script = proven(1)
    script.up("a.1")
    run_out(script, "a.1")
    script.core.cancel(script.now)
    script.pump()
    row = script.stored[0]
    assert (row.state, row.error_kind, row.error) == (TrialState.CANCELLED, None, None)


@pytest.mark.parametrize("restarts", [1, 3])
def test_the_one_more_try_is_one_whatever_becomes_of_the_head(restarts: int) -> None:
    """A new scheduler over the same store does not grant it again; infrastructure has its own budget."""
    script = proven(1)
    script.up("a.1")
    run_out(script, "a.1")
    for turn in range(restarts):
        script = Script(list(script.stored.values()), list(script.attempts.values()))
        script.up(f"a.{turn}")
    run_out(script, f"a.{restarts - 1}")
    assert (script.stored[0].state, script.stored[0].attempts) == (TrialState.FAILED, 2)


def test_retry_gives_the_try_back() -> None:
    """A person's retry is a full budget, also of a sweep at rest."""
    script = Script(trials(1))
    script.up("a.1")
    run_out(script, "a.1")
    script.up("a.2")
    run_out(script, "a.2")
    book = TrialBook(list(script.stored.values()), list(script.attempts.values()), script.options.metric)
    assert book.retry({TrialState.FAILED}) == [0]
    again = Script(list(book.rows.values()), list(script.attempts.values()))
    again.up("a.1")
    assert again.stored[0].error_kind is None
    run_out(again, "a.1")
    assert (again.stored[0].state, again.stored[0].attempts) == (TrialState.PENDING, 3)


def test_a_sweep_that_is_being_stopped_tries_nothing_again() -> None:
    """FAILED says more than CANCELLED would."""
    script = proven(1)
    script.up("a.1")
    script.start("a.1")
    script.core.stop(script.now)
    run_out(script, "a.1")
    assert (script.stored[0].state, script.stored[0].error_kind) == (TrialState.FAILED, ErrorKind.OOM)
