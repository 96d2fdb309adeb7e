"""What a person sees of a running sweep: on a terminal, in a pipe, in a notebook."""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from IPython.utils.capture import CapturedIO
from rich.console import Console

from raycolab.errors import Detached
from raycolab.summary import Best, NodeStatus, SetupStatus, SweepStatus
from raycolab.trials import SweepState
from raycolab.view.progress import SweepProgress, sweep_line
from tests.raycolab.view.conftest import Clock

BEST = Best("accuracy", 0.98333, "svc", "iris", 3)
NODES = [NodeStatus(name="head"), NodeStatus(name="joiner-1")]


def status(complete: int = 0, **changes: Any) -> SweepStatus:
    """A sweep of `status --json`."""
    base = SweepStatus(name="digits", state=SweepState.RUNNING, total=480, running=5, complete=complete, failed=9)
    return msgspec.structs.replace(base, **changes)


def piped() -> Console:
    """A console that is no terminal."""
    return Console(file=io.StringIO(), force_terminal=False, force_jupyter=False, width=40)


def written(console: Console) -> list[str]:
    """The lines a console wrote."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_line_has_everything_in_reading_order() -> None:
    """Name, n/N and what became of them, nodes, elapsed and ETA, best with its pair."""
    assert (
        sweep_line(status(120, eta_s=370.0, best=BEST), NODES, 64.0)
        == "digits  129/480  ok 120  failed 9  running 5  2 nodes  1 min 4 s, 6 min 10 s left"
        "  best accuracy 0.9833 (svc on iris)"
    )


def test_what_is_not_known_is_not_shown() -> None:
    """No node, no ETA, no best."""
    assert sweep_line(status(), [], 0.5) == "digits  9/480  ok 0  failed 9  running 5  0.5 s"


def test_while_main_loads_the_line_says_where_and_since_when() -> None:
    """150 s of `running 0` looked like a hang; once a trial runs the line is about trials."""
    setups = [SetupStatus(3, "import torch", f"2026-11-29T12:00:0{second}+00:00") for second in (5, 2)]
    loading = [NodeStatus(name=f"joiner-{number}", setup=setup) for number, setup in enumerate(setups, 1)]
    line = sweep_line(status(running=0), [*NODES[:1], *loading], 64.0)
    since = datetime(2026, 11, 29, 12, 0, 2, tzinfo=UTC).astimezone()
    assert line.endswith(f"  joiner-2 loads MAIN: cell 3 (import torch) since {since:%H:%M:%S}, and 1 more node")
    assert "loads MAIN" not in sweep_line(status(), loading, 64.0)


def test_a_slow_cell_is_pointed_out_once() -> None:
    """With what to do about it."""
    console = piped()
    with SweepProgress(console) as progress:
        for complete in (0, 1):
            progress.update(status(complete, hints=["cell 3 of MAIN took 84 s"]), NODES)
    assert written(console).count("digits: cell 3 of MAIN took 84 s") == 1


def test_a_sweep_that_rests_says_so() -> None:
    """Or its unmoving count would look like a hang."""
    assert "running 0  paused  1 node  2.0 s" in sweep_line(status(state=SweepState.PAUSED, running=0), NODES[:1], 2.0)


def test_a_warning_is_told_at_once_and_once() -> None:
    """A sweep's sentence and a node's warning stand below the line; a log gets each only when it is new."""
    clock, console = Clock(), piped()
    slow = [NodeStatus(name="joiner-1", warning="port 20201 does not answer")]
    with SweepProgress(console, clock=clock) as progress:
        for complete, sentence in ((1, None), (2, "svc is held"), (3, "svc is held")):
            progress.update(status(complete, sentence=sentence), slow)
            clock.now += 1.5
    assert [line for line in written(console) if "  " not in line] == [
        "joiner-1: port 20201 does not answer",
        "digits: svc is held",
    ]


def test_what_a_node_computes_is_no_change() -> None:
    """Nor what it has sent: a log gets a line when the sweep moves or a node comes or goes."""
    clock, console = Clock(), piped()
    with SweepProgress(console, clock=clock) as progress:
        for trial, nodes in (("#1", 1), ("#2", 1), ("#2", 2)):
            progress.update(status(1), [NodeStatus(name=f"joiner-{k}", trial=trial) for k in range(nodes)])
            clock.now += 1.5
    assert [line.split("  ")[5] for line in written(console)] == ["1 node", "2 nodes"]


def test_piped_it_is_a_line_per_change_at_most_one_a_second() -> None:
    """Unchanged statuses, and those within a second, write nothing; long lines are not broken."""
    clock, console = Clock(), piped()
    with SweepProgress(console, clock=clock) as progress:
        progress.update(status(1))
        progress.update(status(2))
        clock.now += 1.5
        progress.update(status(2, eta_s=9.0))
        progress.update(status(3))
        clock.now += 1.5
        progress.update(status(3, eta_s=8.0))
    assert [line.split("  ")[2] for line in written(console)] == ["ok 1", "ok 3"]


def test_the_last_state_is_always_printed() -> None:
    """Even within the second, and whatever ends the block."""
    clock, console = Clock(), piped()

    def watch() -> None:
        with SweepProgress(console, clock=clock) as progress:
            progress.update(status(1))
            progress.update(status(2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch()
    assert [line.split("  ")[2] for line in written(console)] == ["ok 1", "ok 2"]


def test_a_sweep_never_heard_of_prints_nothing() -> None:
    """A block that ends before the first status."""
    console = piped()
    with SweepProgress(console):
        pass
    assert written(console) == []


def test_names_are_not_markup() -> None:
    """A sweep may be called [red]."""
    console = piped()
    with SweepProgress(console, clock=Clock()) as progress:
        progress.update(status(name="[red]"))
    assert written(console)[0].startswith("[red]  9/480")


def test_a_terminal_that_cannot_redraw_was_silent_until_the_end() -> None:
    """TERM=dumb, as in an editor's shell, gets a line per change, as a pipe does."""
    clock = Clock()
    console = Console(
        file=io.StringIO(), force_terminal=True, force_jupyter=False, width=200, _environ={"TERM": "dumb"}
    )
    with SweepProgress(console, clock=clock) as progress:
        progress.update(status(1))
        assert [line.split("  ")[2] for line in written(console)] == ["ok 1"]
        clock.now += 1.5
        progress.update(status(2))
    assert [line.split("  ")[2] for line in written(console)] == ["ok 1", "ok 2"]


def test_on_a_terminal_the_line_is_live_and_stays_at_the_end() -> None:
    """Redrawn in place, then printed once for good; stdout is left to results."""
    console = Console(file=io.StringIO(), force_terminal=True, force_jupyter=False, width=200)
    before = sys.stdout
    with SweepProgress(console, clock=Clock()) as progress:
        assert sys.stdout is before
        progress.update(status(1))
        progress.update(status(2))
    assert written(console)[-1].endswith("digits  11/480  ok 2  failed 9  running 5  0.0 s")


def test_in_a_notebook_one_output_is_updated_in_place(shown: CapturedIO) -> None:
    """No widgets but a display_id; the panel with its line as its twin, and the last state whenever it ends."""
    with SweepProgress(Console(file=io.StringIO(), force_jupyter=True), clock=Clock()) as progress:
        progress.update(status(1))
        progress.update(status(2))
    texts = [(output.data["text/plain"].split("  ")[2], output.update) for output in shown.outputs]
    assert texts == [("ok 1", False), ("ok 2", True)]
    assert "11 / 480" in shown.outputs[-1].data["text/html"]
    assert len({output.transient["display_id"] for output in shown.outputs}) == 1


def test_in_a_notebook_the_clock_goes_on_without_news(shown: CapturedIO) -> None:
    """Time left, what runs where: what is no line in a log moves on a panel."""
    clock = Clock()
    with SweepProgress(Console(force_jupyter=True), clock=clock) as progress:
        for eta_s in (90, 80):
            progress.update(status(1, eta_s=eta_s))
            clock.now += 1.5
    panels = [output.data["text/html"] for output in shown.outputs]
    assert [text in panel for text, panel in zip(("1 min 30 s", "1 min 20 s"), panels, strict=False)] == [True, True]


def test_a_panel_that_is_not_watched_any_more_says_so(shown: CapturedIO) -> None:
    """It is what the saved notebook shows, for good."""

    def watch() -> None:
        with SweepProgress(Console(force_jupyter=True)) as progress:
            progress.update(status(1))
            raise Detached("Detached: it goes on.")

    with pytest.raises(Detached):
        watch()
    data = shown.outputs[-1].data
    assert "Detached: it goes on." in data["text/html"]
    assert data["text/plain"].endswith("Detached: it goes on.")


def test_by_default_it_writes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json stdout carries JSON only."""
    with SweepProgress() as progress:
        progress.update(status(1))
    out, err = capsys.readouterr()
    assert out == ""
    assert "ok 1" in err
