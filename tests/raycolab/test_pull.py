"""A notebook that pulls, against a scripted head: what is sent, kept through an outage, and said."""

from __future__ import annotations

import builtins
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import nbformat
import pytest
from msgspec import structs

from raycolab.engine.messages import MAX_POINTS, Assignment
from raycolab.errors import ClusterError, MainError, NoHeadError, UsageError
from raycolab.main.notebook import MainNotebook
from raycolab.node.api import Heartbeat, HeartbeatAnswer, Pull, Pulled, Push, PutDown, ReadFiles
from raycolab.pull import Puller, Task
from raycolab.trials import Metric, SweepState, TrialState

T = TypeVar("T")

TRIAL = Assignment(7, 0, "svc", "iris", {"x": 2})
MAIN = """
import raycolab
def compute(model, dataset, x):
    if x < 0:
        raise ValueError("negative")
    raycolab.report(1, x / 2)
    return x
"""


class Head:
    """Answers as it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.pulses: queue.Queue[list[tuple[int, float]]] = queue.Queue()
        self.trial = TRIAL
        self.is_away = False
        self.refused = threading.Event()
        self.over = False
        self.archive = b""

    def ask(self, request: Any, *, timeout_s: float | None = None) -> Any:
        """Answer as the head does."""
        if self.is_away:
            self.refused.set()
            raise NoHeadError("No head answers here.")
        self.asked.append(request)
        match request:
            case Pull():
                return Pulled(over=SweepState.COMPLETE) if self.over else Pulled(self.trial)
            case Heartbeat(points=points):
                self.pulses.put(points)
                return HeartbeatAnswer(held=True)
            case ReadFiles(offset=offset):
                return self.archive[offset : offset + 100]
        return True

    def sent(self, kind: type[T]) -> list[T]:
        """Each request of a kind."""
        return [request for request in self.asked if isinstance(request, kind)]


@pytest.fixture
def head() -> Head:
    """A head with one trial."""
    return Head()


@pytest.fixture
def puller(head: Head, tmp_path: Path) -> Iterator[Puller]:
    """One that asks a head that is away no second time."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(MAIN)])  # type: ignore[no-untyped-call]
    made = Puller("s", head, "joiner-1", MainNotebook.load(book).to_json(), Metric("acc"), tmp_path, give_up_s=0.0)
    yield made
    made.close()


def got(puller: Puller) -> Task:
    """Its next task."""
    task = puller.next()
    assert task is not None
    return task


def test_a_task_is_computed_and_sent(head: Head, puller: Puller) -> None:
    """With what it reported; the notebook can still be asked things, as no worker can."""
    asks = builtins.input
    task = got(puller)
    assert task.compute() == {"acc": 2}
    assert builtins.input is asks
    assert task.send_data()
    task.done()
    (sent,) = head.sent(Push)
    assert (sent.ticket, sent.outcome.metrics) == (7, {"acc": 2})
    assert [point for pulse in head.sent(Heartbeat) for point in pulse.points] == [(1, 1.0)]
    assert {pull.node for pull in head.sent(Pull)} == {"joiner-1"}


def test_the_files_of_main_come_from_the_head(head: Head, tmp_path: Path) -> None:
    """Piece by piece, into MAIN's folder on this machine; the notebook's own directory stays as it is."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "data.csv").write_text("\n".join(map(str, range(200))))
    (folder / "MAIN.py").write_text("def compute(x):\n    return x + len(open('data.csv').readlines())\n")
    main, head.archive = MainNotebook.load(folder / "MAIN.py").with_files(["data.csv"])
    here = Path.cwd()
    puller = Puller("s", head, "joiner-1", main.to_json(), Metric("acc"), tmp_path, main_version=2, give_up_s=0.0)
    try:
        assert got(puller).compute() == {"acc": 202}
    finally:
        puller.close()
    assert Path.cwd() == here
    assert {pull.main_version for pull in head.sent(Pull)} == {2}


def test_a_task_that_fails_is_sent_too(head: Head, puller: Puller, capsys: pytest.CaptureFixture[str]) -> None:
    """The loop goes on; what went wrong is said and sent."""
    head.trial = structs.replace(TRIAL, config={"x": -1})
    task = got(puller)
    assert task.compute() is None
    task.send_data()
    assert "#0 svc x iris failed: ValueError: negative (cell 1)" in capsys.readouterr().out
    assert head.sent(Push)[0].outcome.state is TrialState.FAILED


def test_ones_own_data_is_checked(head: Head, puller: Puller) -> None:
    """The metric must be in it; without any there is nothing to send."""
    task = got(puller)
    with pytest.raises(
        UsageError, match=r"^#0 svc x iris has no data yet: call its compute\(\) first, or give send_data what"
    ):
        task.send_data()
    with pytest.raises(UsageError, match="send_data was given a dict without 'acc'"):
        task.send_data({"loss": 1.0})
    task.send_data({"acc": 0.5, "loss": 1.0})
    assert head.sent(Push)[0].outcome.metrics == {"acc": 0.5, "loss": 1.0}


def test_what_could_not_be_sent_is_not_done(head: Head, puller: Puller) -> None:
    """The task keeps it, and sends it when the head is there again."""
    task = got(puller)
    head.is_away = True
    with pytest.raises(ClusterError):
        task.send_data(0.5)
    with pytest.raises(UsageError, match=r"is not done: nothing was sent\. Call its compute\(\)"):
        task.done()
    head.is_away = False
    assert task.send_data()
    task.done()


def test_a_main_that_fails_in_setup_is_told_in_the_notebook(head: Head, tmp_path: Path) -> None:
    """With the cell, as workers are told; the task is still this notebook's."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import nothing_of_this_name")])  # type: ignore[no-untyped-call]
    puller = Puller("s", head, "joiner-1", MainNotebook.load(book).to_json(), Metric("acc"), tmp_path, give_up_s=0.0)
    task = got(puller)
    with pytest.raises(MainError, match=r"MAIN cannot be set up in this notebook: .*nothing_of_this_name.*\(cell 1\)"):
        task.compute()
    puller.close()
    assert len(head.sent(PutDown)) == 1


def test_reports_outlast_an_outage(head: Head, puller: Puller) -> None:
    """The latest of them, as many as a worker keeps."""
    got(puller)
    head.is_away = True
    for step in range(MAX_POINTS + 50):
        puller.reported(step, 0.0)
    assert head.refused.wait(10)
    head.is_away = False
    puller.reported(MAX_POINTS + 50, 1.0)
    points = [tuple(point) for point in head.pulses.get(timeout=10)]
    while points[-1] != (MAX_POINTS + 50, 1.0):
        points += [tuple(point) for point in head.pulses.get(timeout=10)]
    assert points[0] == (51, 0.0)
    assert len(points) == MAX_POINTS


def test_one_that_ends_puts_its_task_down(head: Head, puller: Puller) -> None:
    """Once, and only what it holds."""
    got(puller)
    puller.close()
    puller.close()
    assert len(head.sent(PutDown)) == 1


def test_a_sweep_at_rest_has_no_task(head: Head, puller: Puller) -> None:
    """And nothing is said of one that is COMPLETE."""
    head.over = True
    assert puller.next() is None
