"""A person's five minutes, in a browser: head and joiner in JupyterLab, one sweep, its table; by hand four more tabs.

The pictures of it go to the folder RAYCOLAB_SCREENSHOTS, where that is set.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

import raycolab
from raycolab.trials import TrialState
from tests.notebooks.browser import WAIT_S, LabPage, come_one_by_one, open_lab
from tests.notebooks.kernels import EXAMPLES, NotebookTab, Opened, read_example, shown
from tests.programs import needs

pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]

PAIRS = 16  # of the example
EVERYONE = "everyone"  # a file
LONGER = """\
import time
from pathlib import Path

quick = compute


def compute(model, dataset, **params):
    until = time.monotonic() + {job_s}
    while time.monotonic() < until and not Path("{everyone}").exists():
        time.sleep(0.05)
    return quick(model, dataset, **params)
"""
"""A last cell for the example's MAIN: jobs of some seconds, until every tab has done one and a file says so.

Were they as short as they are, a quick head might be through before the last tab is up.
"""


@dataclass(frozen=True)
class Size:
    """How many tabs join, the first of them in a browser, and what there is to do."""

    joiners: int
    jobs_per_pair: int
    job_s: float

    @property
    def jobs(self) -> int:
        """Of the whole sweep."""
        return PAIRS * self.jobs_per_pair

    @property
    def names(self) -> list[str]:
        """The joiners."""
        return [f"joiner-{number}" for number in range(1, self.joiners + 1)]


SIZES = (
    pytest.param(Size(joiners=1, jobs_per_pair=2, job_s=1.0), id="two tabs"),
    pytest.param(Size(joiners=5, jobs_per_pair=10, job_s=4.0), id="six tabs", marks=pytest.mark.slow),
)


@dataclass
class FiveMinutes:
    """What a person has done, and the pages they look at now."""

    size: Size
    folder: Path
    head_tab: NotebookTab
    head: LabPage
    joiner: LabPage
    others: list[Opened]
    address: str
    clicked_at: float

    @property
    def sweep(self) -> raycolab.Sweep:
        """The sweep, from its database."""
        return raycolab.find("sample_experiment", data_dir=self.head_tab.data_dir)


@pytest.fixture(scope="module", params=SIZES)
def ran(request: pytest.FixtureRequest) -> Iterator[FiveMinutes]:
    """Run the head, read its address off the page, paste that into the joiner, have more tabs join, wait."""
    for program in ("chromium", "chromedriver"):
        needs(program)
    size: Size = request.param
    folder = Path(tempfile.mkdtemp(prefix="rct-"))
    with contextlib.ExitStack() as ending:
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        if chosen := os.environ.get("RAYCOLAB_SCREENSHOTS"):
            ending.callback(shutil.copytree, folder / "pictures", chosen, dirs_exist_ok=True)
        tabs = [NotebookTab(folder, f"tab-{number}", cpu=number) for number in range(1 + size.joiners)]
        for tab in tabs:
            ending.callback(tab.end)
        head, joiner = open_pages(size, folder, tabs)
        clicked_at = head.run_all()
        address = head.selected("start", "pre.address", WAIT_S)
        joiner.fill("ADDRESS", address)
        joiner.run_all()
        others = [Opened.of(read_example("joiner.ipynb", ADDRESS=address), tab) for tab in tabs[2:]]
        head.wait_for("start", r"\bjoiner-1\s+up\b", WAIT_S)
        come_one_by_one(head, others, present=1)
        head.wait_for("run", "".join(rf"(?=.*{name}\s+[1-9]\d* done)" for name in size.names), WAIT_S)
        for page, cell in ((head, "start"), (head, "run"), (joiner, "join")):
            page.picture(f"running-{cell}", cell)
        (folder / EVERYONE).touch()
        head.wait_for("dataframe", f"{size.jobs} rows", WAIT_S)
        yield FiveMinutes(size, folder, tabs[0], head, joiner, others, address, clicked_at)


def open_pages(size: Size, folder: Path, tabs: list[NotebookTab]) -> tuple[LabPage, LabPage]:
    """Head and joiner, each in a browser of its own session, their forms filled in but for the address."""
    write_notebooks(size, folder)
    (folder / "pictures").mkdir()
    with ThreadPoolExecutor(2) as pool:
        head, joiner = pool.map(lambda tab: open_lab(tab, folder / "pictures"), tabs[:2])
        list(pool.map(lambda page, name: page.open(name), (head, joiner), ("head.ipynb", "joiner.ipynb")))
    fields = {"SOURCE": "", "PROVIDER": "unix", "MAIN": "MAIN.ipynb", "JOBS_PER_PAIR": size.jobs_per_pair}
    for name, value in fields.items():
        head.fill(name, value)
    joiner.fill("SOURCE", "")
    head.picture("before")
    return head, joiner


def write_notebooks(size: Size, folder: Path) -> None:
    """Head and joiner as they are, and the example's MAIN with longer jobs."""
    for name in ("head.ipynb", "joiner.ipynb"):
        shutil.copy(EXAMPLES / name, folder)
    main = nbformat.read(EXAMPLES / "MAIN.ipynb", as_version=4)
    main.cells.append(nbformat.v4.new_code_cell(LONGER.format(job_s=size.job_s, everyone=folder / EVERYONE)))
    nbformat.write(main, folder / "MAIN.ipynb")


def test_every_tab_took_its_share(ran: FiveMinutes) -> None:
    """Each job is COMPLETE, some on every tab, and the page's panel says so."""
    rows = ran.sweep.results.rows
    assert [row.state for row in rows] == [TrialState.COMPLETE] * ran.size.jobs
    shares = Counter(row.node for row in rows if row.attempts)  # a configuration drawn again is not run again
    assert set(shares) == {"head", *ran.size.names}
    panel = ran.head.text("run")
    assert f"{ran.size.jobs} / {ran.size.jobs}" in panel
    assert all(f"{share} done" in panel for share in shares.values())


def test_the_table_is_on_the_page(ran: FiveMinutes) -> None:
    """The DataFrame, the best of every pair, the best of all, and no errors."""
    names, *table = ran.head.rows("dataframe")
    assert {"model", "dataset", "state", "accuracy", "node"} <= set(names)
    assert {row[names.index("state")] for row in table if row[0].isdigit()} == {"COMPLETE"}
    pivot = ran.head.rows("pivot")
    assert [row[0] for row in pivot[2:]] == ["svc", "forest", "logistic", "knn"]
    best = max(row.metrics["accuracy"] for row in ran.sweep.results.rows)
    assert f"'accuracy': {best}" in ran.head.text("best")
    for cell in ("start", "declare", "run", "dataframe", "pivot", "best", "errors"):
        ran.head.picture(f"head-{cell}", cell)


def test_the_joiners_page_says_what_it_does_and_how_to_leave(ran: FiveMinutes) -> None:
    """Its name, its state and `raycolab.leave()`, while its cell runs."""
    said = ran.joiner.wait_for("join", r"joiner-\d", WAIT_S)
    assert "raycolab.leave()" in said
    assert "up" in said.split()
    ran.joiner.picture("joiner-join", "join")


def test_the_first_trial_on_a_joiner(ran: FiveMinutes) -> None:
    """From the click on Run All Cells at the head; what it took is printed, and nothing was to be installed."""
    rows = [row for row in ran.sweep.results.rows if row.attempts]
    first = min(row.ended_at or 0.0 for row in rows if row.node != "head")
    last = max(row.ended_at or 0.0 for row in rows)
    assert ran.clicked_at < first < last
    took = {"first_trial_on_a_joiner_s": first - ran.clicked_at, "whole_sweep_s": last - ran.clicked_at}
    print(json.dumps({name: round(seconds, 1) for name, seconds in took.items()}))  # noqa: T201


def test_the_head_ends_and_its_address_is_gone(ran: FiveMinutes) -> None:
    """The last cell, its box ticked: every joiner's cell ends, and the saved notebook has no address in it."""
    ran.head.fill("SHUT_DOWN", True)
    ran.head.run("shutdown")
    ran.head.wait_for("start", "This head has ended", WAIT_S)
    ran.joiner.wait_for("join", "no longer part of the cluster", WAIT_S)
    for each in ran.others:
        assert each.thread is not None
        each.thread.join(WAIT_S)
        assert re.search("no longer part of the cluster", shown(each.cell("join")))
    ran.head.picture("ended-start", "start")
    ran.joiner.picture("ended-join", "join")
    ran.head.save()
    assert ran.address.rpartition("#")[2] not in (ran.folder / "head.ipynb").read_text()


def test_the_page_loaded_again_shows_the_same(ran: FiveMinutes) -> None:
    """Panels and tables are in the saved file, and on the page that is made from it."""
    cells = ("start", "run", "dataframe")
    before = {cell: ran.head.text(cell) for cell in cells}
    ran.head.reload()
    assert {cell: ran.head.text(cell) for cell in cells} == before
    ran.head.picture("reloaded")
