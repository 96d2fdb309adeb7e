"""`raycolab results` of odd sweeps: nested names, numbers that are none, texts of many lines, and no trial at all."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from raycolab.store import open_store, sqlite_url
from raycolab.trials import ErrorKind, Scalar, TrialState
from tests.raycolab.command_line import Run
from tests.raycolab.scripted_head import declare_stored

ERROR = 'ValueError: first line\nsecond, "quoted"\r\nthird ; \tend (cell 0)'
SPACE = {"opt": {"lr": {"min": 0.0, "max": 1.0}, "name": ["a,b", 'c"d']}}


@pytest.fixture
def odd(here: Path) -> None:
    """A sweep with nested parameters: a plain trial, a NaN, an infinite one, a failed one, and one that never ran."""
    main = here / "MAIN.ipynb"
    notebook = json.loads(main.read_text())
    notebook["cells"][0]["source"] = "def compute(model, dataset, config):\n    return 1.0"
    main.write_text(json.dumps(notebook))
    declare_stored(
        here / "data", "odd", main=main, models={"m": SPACE}, datasets=["d"], jobs_per_pair=5, metric="score"
    )
    with open_store(sqlite_url(here / "data" / "raycolab.db")) as store:
        row = store.existing_sweep("odd")
        trials = list(store.trials(row.id))
        for number, score in enumerate((0.5, math.nan, math.inf)):
            metrics: dict[str, Scalar] = {"score": score, "note": "two\nlines"}
            trials[number] = replace(trials[number], state=TrialState.COMPLETE, metrics=metrics, attempts=1)
        failure = {"state": TrialState.FAILED, "error_kind": ErrorKind.EXCEPTION, "error": ERROR, "attempts": 1}
        trials[3] = replace(trials[3], **failure)  # type: ignore[arg-type]
        store.write(row.id, trials[:4])


class TestOddRows:
    """Nothing is lost in any form."""

    def test_csv_has_a_record_for_each_trial(self, run: Run, odd: None) -> None:
        """Whatever line ends and quotes a text has, and a column for each nested name."""
        rows = list(csv.DictReader(io.StringIO(run("results", "odd", "--format", "csv").out, newline="")))
        assert [row["number"] for row in rows] == ["0", "1", "2", "3", "4"]
        assert {"config/opt/lr", "config/opt/name"} <= rows[0].keys()
        assert [row["score"] for row in rows] == ["0.5", "", "inf", "", ""]
        assert rows[1]["error"] == "score is nan: complete, but never best"
        assert (rows[3]["error"], rows[0]["note"]) == (ERROR, "two\nlines")
        assert {row["config/opt/name"] for row in rows} <= {"a,b", 'c"d'}

    def test_json_is_standard_json(self, run: Run, odd: None) -> None:
        """No NaN and no Infinity, which many readers refuse."""

        def refuse(word: str) -> float:
            raise AssertionError(word)

        rows = json.loads(run("results", "odd", "--format", "json").out, parse_constant=refuse)
        assert [row["score"] for row in rows] == [0.5, None, None, None, None]
        assert rows[3]["error"] == ERROR
        assert (rows[4]["state"], rows[4]["datetime_start"]) == ("PENDING", None)

    def test_the_table_and_the_best(self, run: Run, odd: None) -> None:
        """Only a finite number can be best; a cause is one line."""
        ended = run("results", "odd")
        assert ended.code == 0
        assert any(line.startswith("best score 0.5: m on d") for line in ended.out.splitlines())
        assert [line for line in ended.out.splitlines() if "ValueError" in line] == [
            '1 trial: ValueError: first line second, "quoted" third ; end (cell 0)'
        ]
        assert json.loads(run("results", "odd", "--best").out)["score"] == 0.5


class TestWithoutAHead:
    """What is in the database can be shown, listed and written."""

    def test_a_report_is_written(self, run: Run, here: Path, odd: None) -> None:
        """Where it was asked for, else beside by the sweep's name."""
        assert run("report", "odd").err == f"written: {here}/odd.html\n"
        assert run("report", "odd", "-o", "other.html").code == 0
        assert (here / "odd.html").read_text() == (here / "other.html").read_text()
        refused = run("report", "odd", "-o", "out.pdf")
        assert (refused.code, "end the name in .html" in refused.err) == (2, True)

    def test_what_a_trial_printed(self, run: Run, odd: None) -> None:
        """Of one that printed nothing it is nothing."""
        assert run("logs", "odd", "0").out == ""
        assert run("logs", "odd", "99").code == 2

    def test_sweeps_are_listed(self, run: Run, odd: None) -> None:
        """A line for each, or an object."""
        assert run("list").out.splitlines()[1].split()[:5] == ["odd", "DECLARED", "4/5", "ok", "3"]
        (listed,) = json.loads(run("list", "--json").out)
        assert (listed["name"], listed["total"], listed["failed"], listed["tags"]) == ("odd", 5, 1, [])

    def test_no_sweep_is_said_to_be_none(self, run: Run, here: Path) -> None:
        """And nothing is made."""
        assert run("list").err == "There is no sweep yet: `raycolab submit SWEEP.yaml` declares one.\n"
        assert not (here / "data").exists()
