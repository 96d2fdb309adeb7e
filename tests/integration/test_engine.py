"""The engine on real Ray: a sweep's way from `start` to its last committed row, through every kind of trouble."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import closing

import pytest
from sqlalchemy.engine import make_url

from raycolab.errors import UnknownSweepError, UsageError
from raycolab.node import api
from raycolab.spec.spec import SweepSpec
from raycolab.trials import ErrorKind, SweepState, TrialState
from tests.integration.engine_stage import Cluster, notebook

pytestmark = pytest.mark.ray


class Rewind(api.Request[None], frozen=True):
    """An order of a later version."""

    sweep: str


SQUARE = "def compute(model, dataset, x):\n    return x * x"
SLOW = "import time\ndef compute(model, dataset, x):\n    time.sleep(0.5)\n    return x"


def test_a_sweep_runs_to_its_end(engine_cluster: Cluster) -> None:
    """Every trial is COMPLETE with one attempt, the news say so and name the best."""
    sweep_id = engine_cluster.declare(
        "squares", notebook(SQUARE), models={"m": {"x": list(range(40))}}, datasets=["a", "b"], method="grid"
    )
    engine_cluster.supervisor.ask(api.Start("squares"))
    news = engine_cluster.supervisor.wait_state("squares", SweepState.COMPLETE)
    assert (news["total"], news["complete"], news["pending"]) == (80, 80, 0)
    assert (news["best"]["metric"], news["best"]["value"]) == ("metric", 39 * 39)
    rows = engine_cluster.store.trials(sweep_id)
    assert all(row.state is TrialState.COMPLETE and row.node == "head" for row in rows)
    assert [attempt.number for attempt in engine_cluster.store.attempts(sweep_id)] == [1] * 80
    assert engine_cluster.store.existing_sweep("squares").state is SweepState.COMPLETE


def test_two_slots_of_a_node_do_not_race_for_a_file(engine_cluster: Cluster) -> None:
    """`if not os.path.exists("d.csv")`: all jobs were COMPLETE, with 4 to 20 of its 20 rows."""
    write = (
        "import os, time\n"
        "if not os.path.exists('d.csv'):\n"
        "    with open('d.csv', 'w') as file:\n"
        "        for number in range(20):\n"
        "            print(number, file=file, flush=True)\n"
        "            time.sleep(0.02)"
    )
    compute = "rows = len(open('d.csv').readlines())\ndef compute(model, dataset, x): return rows"
    sweep_id = engine_cluster.declare(
        "race", notebook(write, compute), models={"m": {"x": list(range(8))}}, datasets=["d"], method="grid"
    )
    engine_cluster.supervisor.ask(api.Start("race", expect_slots=2))
    engine_cluster.supervisor.wait_state("race", SweepState.COMPLETE)
    assert [row.metrics for row in engine_cluster.store.trials(sweep_id)] == [{"metric": 20}] * 8


def test_the_end_is_told_once_it_is_stored(engine_cluster: Cluster) -> None:
    """A store that takes a second over the sweep's last state: nobody hears of the end before it is there."""
    sweep_id = engine_cluster.declare("late", notebook(SQUARE), models={"m": {"x": [1]}}, datasets=["d"], method="grid")
    url = make_url(engine_cluster.url)
    with closing(sqlite3.connect(str(url.database))) as database:
        database.execute(
            "CREATE VIEW a_second AS WITH RECURSIVE numbers(n) AS"
            " (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT 10000000) SELECT n FROM numbers"
        )
        database.execute(
            f"CREATE TRIGGER late BEFORE UPDATE OF state ON sweeps WHEN new.id = {sweep_id} AND new.state = 'COMPLETE'"
            " BEGIN SELECT count(*) FROM a_second; END"
        )
    engine_cluster.supervisor.ask(api.Start("late"))
    engine_cluster.supervisor.wait_state("late", SweepState.COMPLETE)
    assert engine_cluster.store.existing_sweep("late").state is SweepState.COMPLETE


@pytest.mark.slow
def test_each_kind_of_failure_has_its_own_end(engine_cluster: Cluster) -> None:
    """An exception and a timeout are FAILED, a process that dies three times is LOST, the rest of the sweep goes on."""
    main = notebook(
        "import os, time",
        "def compute(model, dataset, x):\n"
        "    print('at work')\n"
        "    if model == 'raises': raise ValueError(f'bad {x}')\n"
        "    if model == 'dies': os._exit(1)\n"
        "    if model == 'hangs': time.sleep(100)\n"
        "    return x",
    )
    models = {"good": {"x": [1, 2, 3]}, "raises": {"x": [1, 2]}, "dies": {"x": [1]}, "hangs": {"x": [1]}}
    sweep_id = engine_cluster.declare("trouble", main, models=models, datasets=["d"], method="grid", timeout_s=2)
    engine_cluster.supervisor.ask(api.Start("trouble"))
    engine_cluster.supervisor.wait_state("trouble", SweepState.COMPLETE)
    rows = engine_cluster.store.trials(sweep_id)
    ends = {model: {(row.state, row.error_kind) for row in rows if row.model == model} for model in models}
    assert ends == {
        "good": {(TrialState.COMPLETE, None)},
        "raises": {(TrialState.FAILED, ErrorKind.EXCEPTION)},
        "dies": {(TrialState.LOST, ErrorKind.LOST)},
        "hangs": {(TrialState.FAILED, ErrorKind.TIMEOUT)},
    }
    raised = next(row for row in rows if row.model == "raises")
    assert raised.error is not None
    assert raised.error.startswith("ValueError: bad 1")
    assert raised.cell_index == 2
    died = next(row for row in rows if row.model == "dies")
    assert died.attempts == 3
    assert died.error is not None
    assert died.error.startswith("lost 3 times")


def test_a_setup_that_fails_everywhere_holds_the_sweep(engine_cluster: Cluster) -> None:
    """No trial is blamed, the sentence names the cell's error and how to go on."""
    main = notebook("import no_such_module", SQUARE)
    sweep_id = engine_cluster.declare("broken", main, models={"m": {"x": [1, 2]}}, datasets=["d"], method="grid")
    engine_cluster.supervisor.ask(api.Start("broken"))
    news = engine_cluster.supervisor.wait_state("broken", SweepState.HELD)
    assert "no_such_module" in news["sentence"]
    assert "raycolab resume broken" in news["sentence"]
    assert {row.state for row in engine_cluster.store.trials(sweep_id)} == {TrialState.PENDING}
    assert engine_cluster.store.attempts(sweep_id) == []


def test_pause_resume_and_stop(engine_cluster: Cluster) -> None:
    """While paused nothing starts; after resume it goes on; stop lets what runs end and cancels the rest."""
    supervisor = engine_cluster.supervisor
    sweep_id = engine_cluster.declare(
        "long", notebook(SLOW), models={"m": {"x": list(range(60))}}, datasets=["d"], method="grid"
    )
    supervisor.ask(api.Start("long"))
    supervisor.wait_for(lambda: supervisor.sweep("long").get("complete", 0) >= 4)
    supervisor.ask(api.Pause("long"))
    supervisor.wait_for(lambda: supervisor.sweep("long")["running"] == 0)
    done = supervisor.sweep("long")["complete"]
    time.sleep(1.2)
    assert supervisor.sweep("long")["complete"] == done
    assert engine_cluster.store.existing_sweep("long").state is SweepState.PAUSED
    supervisor.ask(api.Resume("long"))
    supervisor.wait_for(lambda: supervisor.sweep("long")["complete"] >= done + 4)
    supervisor.ask(api.Stop("long"))
    news = supervisor.wait_state("long", SweepState.STOPPED)
    states = {row.state for row in engine_cluster.store.trials(sweep_id)}
    assert states == {TrialState.COMPLETE, TrialState.CANCELLED}
    assert news["complete"] + news["cancelled"] == 60


def test_sweeps_run_in_turn_and_cancel_kills(engine_cluster: Cluster) -> None:
    """The second sweep waits and says for whom; cancelling the first ends its trials at once; retry runs them."""
    supervisor = engine_cluster.supervisor
    main = notebook(
        "import os, time",
        "def compute(model, dataset, x):\n"
        f"    time.sleep(0 if os.path.exists('{engine_cluster.folder}/go') else 100)\n"
        "    return x",
    )
    engine_cluster.declare("first", main, models={"m": {"x": [1, 2, 3]}}, datasets=["d"], method="grid")
    engine_cluster.declare("second", notebook(SQUARE), models={"m": {"x": [1, 2, 3]}}, datasets=["d"], method="grid")
    supervisor.ask(api.Start("first"))
    supervisor.ask(api.Start("second"))
    supervisor.wait_for(lambda: supervisor.sweep("first").get("running"))
    assert supervisor.progress["trials"] == {"head": "#0 m x d"}
    assert supervisor.sweep("second")["state"] == SweepState.QUEUED
    assert supervisor.sweep("second")["sentence"] == "waits for its turn behind first"
    supervisor.ask(api.Cancel("first"))
    assert supervisor.wait_state("first", SweepState.CANCELLED)["cancelled"] == 3
    supervisor.wait_state("second", SweepState.COMPLETE)
    (engine_cluster.folder / "go").touch()
    supervisor.ask(api.Retry("first"))
    assert supervisor.wait_state("first", SweepState.COMPLETE)["complete"] == 3


def test_orders_that_cannot_be_obeyed_are_answered(engine_cluster: Cluster) -> None:
    """An unknown sweep, a pause of what does not run, an order of another version: a sentence and its class."""
    engine_cluster.declare("idle", notebook(SQUARE), models={"m": {"x": [1]}}, datasets=["d"], method="grid")
    engine_cluster.store.create_sweep("bare", "{}", None, "", None, {}, [], 0.0)
    with pytest.raises(UnknownSweepError):
        engine_cluster.supervisor.ask(api.Start("nobody"))
    for request, sentence in (
        (api.Pause("idle"), "sweep 'idle' is not running (DECLARED): there is nothing to pause."),
        (
            api.Start("bare"),
            "sweep 'bare' was declared without a MAIN, so that workers have nothing to run: delete it, ",
        ),
        (Rewind("idle"), "The head that runs here is of another version of raycolab: end it with `raycolab down`"),
    ):
        with pytest.raises(UsageError) as refused:
            engine_cluster.supervisor.ask(request)
        assert str(refused.value).startswith(sentence)


def test_orders_said_that_they_did_something_to_a_sweep_that_has_ended(engine_cluster: Cluster) -> None:
    """Of one that is COMPLETE nothing is left to stop, cancel, resume or retry; deleted, it is told no more."""
    supervisor = engine_cluster.supervisor
    engine_cluster.declare("over", notebook(SQUARE), models={"m": {"x": [1]}}, datasets=["d"], method="grid")
    supervisor.ask(api.Start("over"))
    supervisor.wait_state("over", SweepState.COMPLETE)
    for request, nothing in (
        (api.Stop("over"), "is COMPLETE: every trial has ended, so there is nothing to stop."),
        (api.Cancel("over"), "is COMPLETE: every trial has ended, so there is nothing to cancel."),
        (api.Resume("over"), "is COMPLETE: every trial has ended, so there is nothing to resume. To run what"),
        (api.Retry("over"), "has no trial that is FAILED or LOST or CANCELLED: there is nothing to retry."),
        (api.Retry("over", "lost"), "has no trial that is LOST: there is nothing to retry."),
    ):
        with pytest.raises(UsageError) as refused:
            supervisor.ask(request)
        assert str(refused.value).startswith(f"The sweep 'over' {nothing}")
    supervisor.ask(api.Start("over"))
    assert supervisor.wait_state("over", SweepState.COMPLETE)["complete"] == 1
    supervisor.ask(api.Delete("over"))
    assert supervisor.sweep("over") == {}


def test_after_an_extension_a_sweep_was_said_to_be_complete(engine_cluster: Cluster) -> None:
    """It has trials to run, and status and store say so, before it is started and while it runs."""
    supervisor = engine_cluster.supervisor

    def declared(xs: int) -> api.Declare:
        space = {"m": {"x": list(range(xs))}}
        spec = SweepSpec.from_arguments("grows", models=space, datasets=["d"], method="grid")
        return api.Declare(spec.to_json(), notebook(SLOW).to_json(), {})

    supervisor.ask(declared(2))
    supervisor.ask(api.Start("grows"))
    supervisor.wait_state("grows", SweepState.COMPLETE)
    supervisor.ask(declared(6))
    seen = supervisor.sweep("grows")
    assert (seen["state"], seen["total"], seen["complete"], seen["pending"]) == (SweepState.DECLARED, 6, 2, 4)
    assert engine_cluster.store.existing_sweep("grows").state is SweepState.DECLARED
    supervisor.ask(api.Start("grows"))
    supervisor.wait_for(lambda: supervisor.sweep("grows")["running"])
    supervisor.ask(declared(8))
    assert supervisor.sweep("grows")["total"] == 8
    assert supervisor.wait_state("grows", SweepState.COMPLETE)["complete"] == 8


def test_a_killed_engine_takes_up_where_the_store_is(engine_cluster: Cluster) -> None:
    """What was finished is kept and not run again, what ran is a lost attempt, the rest runs."""
    supervisor = engine_cluster.supervisor
    sweep_id = engine_cluster.declare(
        "survivor", notebook(SLOW), models={"m": {"x": list(range(16))}}, datasets=["d"], method="grid"
    )
    supervisor.ask(api.Start("survivor"))
    supervisor.wait_for(lambda: supervisor.sweep("survivor").get("complete", 0) >= 4)
    before = {row.number: row for row in engine_cluster.store.trials(sweep_id) if row.state is TrialState.COMPLETE}
    told = len(supervisor.told)
    engine_cluster.kill_engine()
    supervisor.wait_state("survivor", SweepState.COMPLETE)
    assert all("survivor" in names for names in supervisor.told[told:]), "who watches it was told that it does not run"
    after = engine_cluster.store.trials(sweep_id)
    assert all(after[number] == row for number, row in before.items())
    assert {row.state for row in after} == {TrialState.COMPLETE}
    attempts = engine_cluster.store.attempts(sweep_id)
    assert "the head stopped" in {attempt.reason for attempt in attempts}
    finished = [attempt.trial for attempt in attempts if attempt.outcome == TrialState.COMPLETE]
    assert sorted(finished) == list(range(16))


def test_a_slot_told_to_end_is_no_failure_of_its_trial(engine_cluster: Cluster) -> None:
    """SIGTERM, which the processes of a node get when it is shut down in order, costs the trial one lost attempt."""
    supervisor = engine_cluster.supervisor
    sweep_id = engine_cluster.declare(
        "told", notebook(SLOW), models={"m": {"x": list(range(12))}}, datasets=["d"], method="grid"
    )
    supervisor.ask(api.Start("told"))
    supervisor.wait_for(lambda: supervisor.sweep("told").get("complete", 0) >= 4)
    engine_cluster.worker("ray::raycolab-slot").terminate()
    supervisor.wait_state("told", SweepState.COMPLETE)
    assert {row.state for row in engine_cluster.store.trials(sweep_id)} == {TrialState.COMPLETE}
    lost = [attempt for attempt in engine_cluster.store.attempts(sweep_id) if attempt.outcome != TrialState.COMPLETE]
    assert [attempt.outcome for attempt in lost] == [TrialState.LOST]


@pytest.mark.slow
def test_a_lost_node_costs_its_trials_one_attempt() -> None:
    """Trials that ran on a node that vanishes run again elsewhere; those it held come back uncharged."""
    with Cluster(cpus=2) as cluster:
        supervisor = cluster.supervisor
        joiner = cluster.add_node(2, cpus=2)
        cluster.start_engine()
        sweep_id = cluster.declare(
            "loss", notebook(SLOW), models={"m": {"x": list(range(40))}}, datasets=["d"], method="grid"
        )
        supervisor.ask(api.Start("loss", expect_slots=4))
        supervisor.wait_for(lambda: supervisor.sweep("loss").get("complete", 0) >= 8)
        cluster.end_node(joiner, signal.SIGKILL)
        supervisor.tell(api.NodeLost(joiner))
        supervisor.wait_state("loss", SweepState.COMPLETE)
        rows = cluster.store.trials(sweep_id)
        assert {row.state for row in rows} == {TrialState.COMPLETE}
        attempts = cluster.store.attempts(sweep_id)
        lost = [attempt for attempt in attempts if attempt.outcome == TrialState.LOST]
        assert 1 <= len(lost) <= 2
        assert {attempt.node for attempt in lost} == {joiner}
        assert {rows[attempt.trial].node for attempt in lost} == {"head"}
        assert len(attempts) == 40 + len(lost)
