"""Why MAIN could not be set up was thrown away: now it is told wherever a sweep is shown."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
from rich.console import Console

from raycolab.results.table import Results
from raycolab.summary import SweepStatus, sweeps_json
from raycolab.trials import ErrorKind, Failure, Metric, SetupFailure, SweepState
from raycolab.view.panels import results_panel, sweep_panel
from raycolab.view.report import page
from raycolab.view.tables import results_table
from tests.raycolab.results.sweeps import declared, sweep_row

SOURCE = "!wget https://example.org/data.csv"
OUTPUT = "wget: unable to resolve host address 'example.org'"


def failure(line: int = 2) -> Failure:
    """A shell command of a cell failed."""
    return Failure(
        ErrorKind.SETUP,
        "ShellCommandError",
        "`wget https://example.org/data.csv` ended with status 4",
        f"cell 2:\n    ---->   {line} {SOURCE}\n\nTraceback (most recent call last):\n  cell 2, line {line}\n",
        2,
        OUTPUT + "\n",
    )


FAILED = SetupFailure.grouped({"head": failure(), "joiner-1": failure(), "joiner-2": failure(line=3)})


@pytest.fixture
def results() -> Results:
    """Of a sweep that no node could set up."""
    row = dataclasses.replace(sweep_row(declared()), state=SweepState.HELD, setup_failures=FAILED)
    return Results(Metric("accuracy"), [], models=["svc"], datasets=["iris"], name="held", declared=row)


def test_the_same_error_is_told_once_with_its_nodes() -> None:
    """Another line is another error."""
    assert [each.nodes for each in FAILED] == [("head", "joiner-1"), ("joiner-2",)]
    assert FAILED[0].headline == (
        "MAIN's setup failed on head, joiner-1: ShellCommandError: `wget https://example.org/data.csv` ended with"
        " status 4 (cell 2)"
    )


def test_errors_has_it_before_the_trials(results: Results) -> None:
    """A row for each, with the nodes and no trial."""
    first = results.errors.iloc[0]
    assert (first["count"], first["error_kind"], first["cell"], first["line"]) == (2, "setup", 2, 2)
    assert first["node"] == "head, joiner-1"
    assert results.errors["trial"].isna().all()
    assert SOURCE in first["traceback"]
    assert OUTPUT in first["output"]


def test_terminal_panel_and_report_show_source_line_traceback_and_output(results: Results) -> None:
    """What `submit` prints at its end, the panel of results, the live panel, the report."""
    printed = io.StringIO()
    Console(file=printed, width=200).print(results_table(results), soft_wrap=True)
    status = SweepStatus.of("held", SweepState.HELD, {}, Metric("accuracy"), setup_failures=FAILED)
    shown = {
        "terminal": printed.getvalue(),
        "panel of results": results_panel(results._findings()),
        "live panel": sweep_panel(status.to_json()),
        "report": page(results._findings()),
        "status --json": json.dumps(status.to_json()),
    }
    for where, text in shown.items():
        for part in (SOURCE, "unable to resolve host address", "head, joiner-1" if "json" not in where else "joiner-1"):
            assert part in text, (where, part)


def test_the_tracebacks_of_many_held_sweeps_do_not_flood_the_status() -> None:
    """The latest keep theirs, the others their line."""
    sweeps = [
        SweepStatus.of(str(number), SweepState.HELD, {}, Metric("m"), setup_failures=FAILED) for number in range(9)
    ]
    kept = [bool(each["setup_failures"][0]["failure"]["traceback"]) for each in sweeps_json(sweeps)]
    assert kept == [False] * 6 + [True] * 3
