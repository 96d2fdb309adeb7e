"""The three notebooks in real kernels, and the cluster a kernel leaves behind: killed, interrupted, run again."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbclient
import nbformat
import pandas as pd
import psutil
import pytest

import raycolab
from raycolab.trials import TrialState
from tests.integration.sessions import until, write_main
from tests.notebooks.kernels import EXAMPLES, NotebookTab, Opened, fill_in, kernel_in, read_example, shown

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]

ALONE, TOGETHER = 1, 2  # JOBS_PER_PAIR, of the head by itself and of both
PAIRS = 16
JOBS = PAIRS * TOGETHER
SLOW_MAIN = """
import time
def compute(model, dataset, x):
    time.sleep(0.4)
    return {"score": x}
"""
DECLARE_SLOW = """
import raycolab
sweep = raycolab.declare("slow", main="MAIN.ipynb", models={"a": {"x": raycolab.uniform(0, 1)}}, datasets=["d"],
                         jobs_per_pair=24, metric="score")
"""


@dataclass
class Ran:
    """head.ipynb, run in its tab up to the last cell, and joiner.ipynb, which runs in another."""

    folder: Path
    head_tab: NotebookTab
    head: Opened
    joiner_tab: NotebookTab
    joiner: Opened
    address: str
    alone: str  # the DataFrame's page before there was a joiner


@pytest.fixture(scope="module")
def ran() -> Iterator[Ran]:
    """What a person does first: run the head; paste its address into the joiner, run it; the head again, with more."""
    folder = Path(tempfile.mkdtemp(prefix="rct-"))
    with contextlib.ExitStack() as ending:
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        head_tab, joiner_tab = NotebookTab(folder, "head", cpu=0), NotebookTab(folder, "tab-1", cpu=1)
        ending.callback(joiner_tab.end)
        ending.callback(head_tab.end)
        head = Opened.of(read_example("head.ipynb", PROVIDER="unix", JOBS_PER_PAIR=ALONE), head_tab)
        ending.enter_context(head.running())
        head.run(*(cell.id for cell in head.code_cells))
        alone = head.cell("dataframe").outputs[0].data["text/html"]
        address = re.findall(r"^tunnel\+\S+$", shown(head.cell("start")), re.MULTILINE)[0]
        joiner = Opened.of(read_example("joiner.ipynb", ADDRESS=address), joiner_tab)
        joiner.start()
        until(lambda: "joiner-1 is up" in shown(joiner.cell("join")), 100, lambda: shown(joiner.cell("join")))
        fill_in(head.notebook, "JOBS_PER_PAIR", TOGETHER)
        head.run(*(cell.id for cell in head.code_cells if cell.id not in ("install", "start")))
        yield Ran(folder, head_tab, head, joiner_tab, joiner, address, alone)


def test_the_head_notebook_ends_with_the_results(ran: Ran) -> None:
    """Alone, with no MAIN named, the example's; then a row for each job, all COMPLETE, the best ones, no errors."""
    assert f"<p>{PAIRS * ALONE} rows" in ran.alone
    table = pd.read_csv(ran.folder / "sample_experiment.csv")
    assert len(table) == JOBS
    assert set(table["state"]) == {"COMPLETE"}
    assert set(table["node"]) <= {"head", "joiner-1"}
    data_frame = ran.head.cell("dataframe").outputs[0].data["text/html"]
    assert f"<p>{JOBS} rows" in data_frame
    pivot = shown(ran.head.cell("pivot"))
    assert all(name in pivot for name in (*table["model"], *table["dataset"]))
    assert "NaN" not in pivot
    assert f"'accuracy': {table['accuracy'].max()}" in shown(ran.head.cell("best"))
    assert shown(ran.head.cell("errors")).startswith("Empty DataFrame")


def test_the_head_notebook_shows_who_joined_and_how_far_the_sweep_is(ran: Ran) -> None:
    """The nodes, one line of progress that stands at its end, what the tabs were worth, the best to run again."""

    def has_both() -> bool:
        ran.head.read()
        return {"head: up, 1 CPU", "joiner-1: up, 1 CPU"} <= set(shown(ran.head.cell("start")).splitlines())

    until(has_both, 45, lambda: shown(ran.head.cell("start")))
    assert f"{PAIRS * ALONE}/{JOBS}" in shown(ran.head.cell("declare"))
    progress, worth = ran.head.cell("run").outputs
    assert f"{JOBS}/{JOBS}  ok {JOBS}  failed 0  running 0  2 nodes" in progress.data["text/plain"]
    assert f"{JOBS} / {JOBS}" in progress.data["text/html"]
    assert re.match(
        rf"{JOBS - PAIRS * ALONE} trials( \(\d+ repeats?, not run again\))?, 2 tabs, .*; (this tab alone about"
        r"|the tabs share the cores) .*\nTo run .*:\n"
        r"import raycolab; raycolab\.set_seed\(\d+\); compute\(.*model=.*\)\n",
        worth.text,
    )


def test_nothing_is_noisy(ran: Ran) -> None:
    """No cell of either notebook warns, logs or writes to stderr."""
    cells = [*ran.head.code_cells, *ran.joiner.code_cells]
    kinds = {
        output.output_type if output.output_type != "stream" else output.name for c in cells for output in c.outputs
    }
    assert kinds <= {"stdout", "execute_result", "display_data"}
    assert [shown(cell) for cell in cells if "arning" in shown(cell)] == []


def test_a_killed_kernel_takes_nothing_with_it(ran: Ran) -> None:
    """SIGKILL of the kernel in mid-sweep: a new one finds the same head, and the sweep with what was finished."""
    write_main(ran.folder, SLOW_MAIN)
    with kernel_in(ran.head_tab) as kernel:
        kernel.run(DECLARE_SLOW)
        kernel.begin("sweep.run()")
        kernel.read_until("ok [1-9]")
        kernel.kill()
    before = {row.number: row.ended_at for row in slow_rows(ran) if row.state is TrialState.COMPLETE}
    assert before
    with kernel_in(ran.head_tab) as kernel:
        said = kernel.run("import raycolab; head = raycolab.start_head(provider='unix')")
        assert ran.address in said.display.splitlines()
        assert "Starting" not in said.text
        assert ran.address in kernel.run("raycolab.attach().join_address").text
        kernel.begin(DECLARE_SLOW + "results = sweep.run()")
        said = kernel.finish()
        assert (said.error, "24/24  ok 24" in said.display) == (None, True), said
    rows = slow_rows(ran)
    assert {row.number: row.ended_at for row in rows if row.number in before} == before
    assert [row.attempts for row in rows] == [1] * 24


def slow_rows(ran: Ran) -> list[raycolab.trials.TrialRow]:
    """The rows of the slow sweep, from its database."""
    return raycolab.find("slow", data_dir=ran.head_tab.data_dir).results.rows


def joiner_panel(ran: Ran) -> str:
    """What the joiner's cell shows now, as HTML."""
    return str(ran.joiner.cell("join").outputs[0].data["text/html"])


def test_stop_detaches_from_a_sweep(ran: Ran) -> None:
    """Stop ends the cell with a sentence and nothing else: the sweep goes on, and can be watched again.

    All the while the joiner's panel has the trial that it runs.
    """
    with kernel_in(ran.head_tab) as kernel:
        kernel.run(DECLARE_SLOW.replace('"slow"', '"stopped"'))
        kernel.begin("results = sweep.run()")
        kernel.read_until("ok [1-9]")
        until(lambda: re.search(r"#\d+ a x d", joiner_panel(ran)) is not None, 20, lambda: joiner_panel(ran)[-600:])
        kernel.interrupt()
        said = kernel.finish()
        assert said.error is not None
        assert re.fullmatch(
            r"Detached: the sweep 'stopped' goes on\. raycolab\.find\('stopped'\)\.wait\(\) .*", said.error
        )
        assert "RUNNING" in kernel.run("sweep").text
        said = kernel.run("raycolab.find('stopped').wait().counts()['complete']")
        assert (said.text, said.error) == ("24", None)


def test_an_error_is_one_sentence(ran: Ran) -> None:
    """What raycolab refuses shows no traceback in a notebook; the kernel's event loop runs all the while."""
    with kernel_in(ran.head_tab) as kernel:
        assert kernel.run("import asyncio, raycolab; asyncio.get_running_loop().is_running()").text == "True"
        said = kernel.run("raycolab.find('nothing')")
        assert said.error is not None
        assert re.fullmatch(r"UnknownSweepError: .*'nothing'.*", said.error)
        said = kernel.run("raycolab.declare('x', main='MIAN.ipynb', metric='accuracy')")
        assert said.error is not None
        assert re.fullmatch(r"MainError: There is no notebook 'MIAN\.ipynb'; nearby: .*MAIN\.ipynb.*", said.error)
        said = kernel.run("raycolab.join('tunnel+wss://cut-short')")
        assert said.error is not None
        assert re.fullmatch(r"UsageError: .*", said.error)


def test_stop_detaches_from_a_joiner(ran: Ran) -> None:
    """Stop leaves the tab in the cluster, running the cell again shows it, leave() ends it without a trace."""
    tab = NotebookTab(ran.folder, "tab-2", cpu=1)
    head = raycolab.attach(ran.head_tab.data_dir)
    join = f"import raycolab; raycolab.join({ran.address!r})"
    with contextlib.ExitStack() as ending:
        ending.callback(tab.end)
        kernel = ending.enter_context(kernel_in(tab))
        kernel.begin(join)
        kernel.read_until("joiner-2 is up with 1 CPU")
        kernel.interrupt()
        said = kernel.finish()
        assert said.error is None
        assert "Detached" in said.display
        assert "raycolab.leave()" in said.display.rpartition("Detached")[2]
        assert head.wait_for_joiners(2, timeout=20) == ["joiner-1", "joiner-2"]
        kernel.begin(join)
        kernel.read_until("joiner-2 is up with 1 CPU")
        kernel.interrupt()
        assert "joiner already" in kernel.finish().display
        said = kernel.run("raycolab.leave()")
        assert (said.text, said.error) == ("This machine has left the cluster.\n", None)
        assert tab.processes() == []
        assert [node["name"] for node in head.nodes()] == ["head", "joiner-1"]


def test_the_joiner_notebook_ends_with_the_head(ran: Ran) -> None:
    """The head's last cell, its box ticked, ends the cluster; the joiner's cell says so and nothing is left.

    Nor does the head's notebook have the address any more, as it would be saved now.
    """
    assert ran.address in str(ran.head.notebook)
    fill_in(ran.head.notebook, "SHUT_DOWN", True)
    ran.head.run("shutdown")
    assert ran.address not in str(ran.head.notebook)
    assert "This head has ended" in shown(ran.head.cell("start"))
    assert ran.joiner.thread is not None
    ran.joiner.thread.join(30)
    assert not ran.joiner.thread.is_alive()
    said = shown(ran.joiner.cell("join")).splitlines()
    assert [line for line in said if line][-2:] == [
        "the head shut down",
        "This machine is no longer part of the cluster.",
    ]
    until(lambda: not left(ran), 20, lambda: f"{left(ran)} are left")


def left(ran: Ran) -> list[psutil.Process]:
    """Processes of the two sessions that are no kernel."""
    return [*ran.head_tab.processes(), *ran.joiner_tab.processes()]


def test_main_runs_by_itself() -> None:
    """examples/MAIN.ipynb runs top to bottom in a plain kernel."""
    notebook = nbformat.read(EXAMPLES / "MAIN.ipynb", as_version=4)
    nbclient.execute(notebook, timeout=100)
    by_hand = next(cell for cell in notebook.cells if cell.id == "by-hand")
    assert all(name in shown(by_hand) for name in ("iris", "wine", "breast_cancer", "digits"))
