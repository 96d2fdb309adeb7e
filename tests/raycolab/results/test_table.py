"""What a person sees of a sweep's results: the contract's table, best, pivot, errors, and files of them."""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from raycolab.errors import UsageError
from raycolab.results.speedup import compute_line
from raycolab.results.table import Results
from raycolab.trials import AttemptRow, ErrorKind, Metric, Scalar, TrialRow, TrialState

NOW = 1_795_379_400.0


def trial(
    number: int, accuracy: Scalar = 0.5, model: str = "svc", dataset: str = "iris", **changes: object
) -> TrialRow:
    """A COMPLETE trial."""
    config: dict[str, Scalar] = {"C": 0.5, "kernel": "rbf"} if model == "svc" else {"max_depth": 4}
    row = TrialRow(
        number,
        model,
        dataset,
        config,
        TrialState.COMPLETE,
        {"accuracy": accuracy, "fit_s": 0.25},
        node="head",
        attempts=1,
        started_at=NOW + number,
        ended_at=NOW + number + 0.5,
    )
    return dataclasses.replace(row, **changes)  # type: ignore[arg-type]


def failed(number: int, error: str = "ValueError: bad (cell 7)", line: int = 12, cell: int | None = 7) -> TrialRow:
    """A trial whose compute raised."""
    return trial(
        number,
        state=TrialState.FAILED,
        metrics={},
        error_kind=ErrorKind.EXCEPTION,
        error=error,
        traceback=f"  cell 2, line 1, in loop\n  cell 7, line {line}, in compute\n  cell 3, line 1, in last\n{error}",
        cell_index=cell,
        output="epoch 1",
    )


def results(*rows: TrialRow, mode: str = "max", attempts: tuple[AttemptRow, ...] = ()) -> Results:
    """The results of a sweep over two models and two data sets."""
    return Results(
        Metric("accuracy", mode), rows, attempts, models=["svc", "forest"], datasets=["wine", "iris"], name="sample"
    )


def test_the_columns_are_the_contracts_in_its_order() -> None:
    """Metrics after the state, the sweep's own first; every parameter of any model; then where, when, errors."""
    data = results(trial(1, model="forest", metrics={"fit_s": 1.0, "accuracy": 0.5}), trial(0)).dataframe
    assert list(data.columns) == [
        *("number", "trial_id", "model", "dataset", "state", "accuracy", "fit_s"),
        *("config/C", "config/kernel", "config/max_depth"),
        *("node", "attempts", "datetime_start", "datetime_complete", "duration_s", "error_kind", "error"),
        *("same_as", "seed", "main_version"),
    ]
    assert list(data["number"]) == [0, 1]
    assert list(data["trial_id"]) == ["sample-0", "sample-1"]


def test_curves_are_what_trials_reported() -> None:
    """A row for each step, in order; none is an empty table of the same columns."""
    found = Results(
        Metric("accuracy"), [trial(0)], models=["svc"], datasets=["iris"], reports={2: {1: 0.5}, 0: {2: 0.25, 1: 1.0}}
    ).curves
    assert found.to_dict("list") == {"number": [0, 0, 2], "step": [1, 2, 1], "value": [1.0, 0.25, 0.5]}
    assert list(results(trial(0)).curves.columns) == ["number", "step", "value"]


def test_copies_were_not_marked() -> None:
    """A repeated configuration names the trial whose result it has."""
    data = results(trial(0), trial(1, attempts=0, same_as=0)).dataframe
    assert data["same_as"].isna().tolist() == [True, False]
    assert (data["same_as"][1], str(data["same_as"].dtype)) == (0, "Int64")


def test_times_are_utc_and_durations_seconds() -> None:
    """What has not started has neither."""
    waiting = TrialRow(1, "svc", "iris", None)
    data = results(trial(0), waiting).dataframe
    assert data["datetime_start"][0] == pd.Timestamp("2026-11-22T20:30:00Z")
    assert str(data["datetime_complete"].dtype) == "datetime64[us, UTC]"
    assert data["duration_s"][0] == 0.5
    assert data.loc[1, ["datetime_start", "duration_s", "node", "error", "config/C", "accuracy"]].isna().all()


def test_parameters_keep_their_kind() -> None:
    """Whole numbers stay whole beside models that lack them; mixed kinds stay what they are."""
    rows = [
        trial(0, config={"depth": 4, "flag": True, "mixed": "sqrt", "huge": 2**70, "lr": 1}),
        trial(1, config={"depth": None, "flag": False, "mixed": 0.5, "huge": 1, "lr": 0.5}),
        trial(2, model="forest", config={"only": "here"}),
    ]
    data = results(*rows).dataframe
    kinds = {name: str(data[f"config/{name}"].dtype) for name in ("depth", "flag", "mixed", "huge", "lr")}
    assert kinds == {"depth": "Int64", "flag": "boolean", "mixed": "object", "huge": "object", "lr": "float64"}
    assert data["config/depth"][0] == 4
    assert data["config/mixed"].tolist()[:2] == ["sqrt", 0.5]
    assert data["config/huge"][0] == 2**70
    assert data["config/only"].isna().tolist() == [True, True, False]


def test_a_metric_named_like_a_column_does_not_hide_it() -> None:
    """It is found as metric/<name>; the table never has two columns of one name."""
    data = results(trial(0, metrics={"accuracy": 1.0, "node": 7, "config/C": 1})).dataframe
    assert data.columns.is_unique
    assert (data["node"][0], data["metric/node"][0], data["metric/config/C"][0]) == ("head", 7, 1)


def test_a_metric_named_as_anothers_column_was_lost() -> None:
    """`number` beside `metric/number`, whichever comes first: every metric has a column."""
    for names in (("number", "metric/number"), ("metric/number", "number")):
        data = results(trial(0, metrics={"accuracy": 0.5} | {name: len(name) for name in names})).dataframe
        assert (data["number"][0], data["metric/number"][0], data["metric/metric/number"][0]) == (0, 13, 6)


def test_a_sweep_without_trials_has_an_empty_table() -> None:
    """Results are usable before the first trial."""
    empty = results()
    assert len(empty) == 0
    assert "accuracy" in empty.dataframe.columns
    assert empty.best is None
    assert empty.best_per_pair().empty
    assert empty.errors.empty
    assert empty.attempts.empty
    assert empty.pivot().isna().all().all()
    assert json.loads(empty.as_text("json")) == []


def test_best_is_one_row_without_other_models_parameters() -> None:
    """A dict with the table's names, plain Python values, times as UTC datetimes."""
    best = results(trial(0, 0.5), trial(1, 0.75, model="forest")).best
    assert best == {
        "number": 1,
        "trial_id": "sample-1",
        "model": "forest",
        "dataset": "iris",
        "state": "COMPLETE",
        "accuracy": 0.75,
        "fit_s": 0.25,
        "config/max_depth": 4,
        "node": "head",
        "attempts": 1,
        "datetime_start": datetime(2026, 11, 22, 20, 30, 1, tzinfo=UTC),
        "datetime_complete": datetime(2026, 11, 22, 20, 30, 1, 500000, tzinfo=UTC),
        "duration_s": 0.5,
        "error_kind": None,
        "error": None,
        "same_as": None,
        "seed": None,
        "main_version": None,
    }


@pytest.mark.parametrize(("mode", "number"), [("max", 2), ("min", 1)])
def test_best_follows_the_mode_and_the_lowest_number_wins_a_tie(mode: str, number: int) -> None:
    """Whatever order the rows come in."""
    rows = [trial(4, 0.9), trial(3, 0.1), trial(2, 0.9), trial(1, 0.1)]
    best = results(*rows, mode=mode).best
    assert best is not None
    assert best["number"] == number


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "high", 10**400])
def test_what_cannot_be_compared_is_never_best(value: Scalar) -> None:
    """NaN and infinities are COMPLETE, but no result to choose."""
    for mode in ("max", "min"):
        assert results(trial(0, value), mode=mode).best is None
        best = results(trial(0, value), trial(1, 0.5), mode=mode).best
        assert best is not None
        assert best["number"] == 1


def test_only_complete_trials_compete() -> None:
    """A pruned trial's last value is no result."""
    assert results(trial(0, 0.9, state=TrialState.PRUNED), failed(1)).best is None


@pytest.mark.parametrize(("value", "shown"), [(10**400, math.inf), (-(10**400), -math.inf)])
def test_a_metric_beyond_a_float_was_not_infinite_everywhere(tmp_path: Path, value: int, shown: float) -> None:
    """In the table, marked, in JSON as any other infinity; never best, in no pair, on the panel and in the report."""
    found = results(trial(0, value), trial(1, 0.5, model="forest"))
    assert found.dataframe["accuracy"].tolist() == [shown, 0.5]
    assert found.dataframe["error"][0] == f"accuracy is {shown}: complete, but never best"
    assert json.loads(found.as_text("json"))[0]["accuracy"] is None
    assert found.pivot().isna().loc["svc", "iris"]
    assert found.best is not None
    assert found.best["accuracy"] == 0.5
    for page in (found._repr_html_(), found.report(tmp_path / "r.html").read_text()):
        assert "0.5" in page
        assert "1000000" not in page


def test_pivot_has_models_and_datasets_in_declared_order() -> None:
    """The best metric in each cell, NaN where there is none."""
    pivot = results(trial(0, 0.5), trial(1, 0.75), trial(2, 0.25, model="forest", dataset="wine")).pivot()
    assert (list(pivot.index), list(pivot.columns)) == (["svc", "forest"], ["wine", "iris"])
    assert (pivot.index.name, pivot.columns.name) == ("model", "dataset")
    assert pivot.loc["svc", "iris"] == 0.75
    assert pivot.loc["forest", "wine"] == 0.25
    assert pivot.isna().loc["svc", "wine"]


def test_best_per_pair_has_whole_rows_in_declared_order() -> None:
    """Pairs without a result are left out."""
    table = results(trial(0, 0.5), trial(1, 0.75), trial(2, 0.25, model="forest", dataset="wine")).best_per_pair()
    assert list(table["number"]) == [1, 2]
    assert list(table.columns) == list(results(trial(0), trial(2, model="forest")).dataframe.columns)


def test_errors_are_grouped_by_cause() -> None:
    """What the message quotes does not split a cause; the line does. The first trial is the example."""
    lost = trial(9, state=TrialState.LOST, error_kind=ErrorKind.LOST, error="lost three times: joiner-1 is gone")
    table = results(
        failed(5, "KeyError: 'x' (cell 7)"),
        *(failed(number, f"ValueError: bad {number} (cell 7)") for number in (3, 2, 4)),
        failed(7, line=13),
        lost,
        trial(1),
    ).errors
    assert table[["count", "cause", "error_kind", "trial"]].to_numpy().tolist() == [
        [3, "ValueError at cell 7 line 12", "exception", 2],
        [1, "KeyError at cell 7 line 12", "exception", 5],
        [1, "ValueError at cell 7 line 13", "exception", 7],
        [1, "lost", "lost", 9],
    ]
    first = table.iloc[0]
    assert (first["error"], first["cell"], first["line"]) == ("ValueError: bad 2 (cell 7)", 7, 12)
    assert first["output"] == "epoch 1"
    assert "line 12, in compute" in first["traceback"]


def test_attempts_tell_which_node_tried_what() -> None:
    """One row per try; a running one has no end."""
    table = results(
        trial(0),
        attempts=(AttemptRow(0, 1, "joiner-1", "LOST", NOW, NOW + 1, "gone"), AttemptRow(0, 2, "head", "RUNNING", NOW)),
    ).attempts
    assert table["node"].tolist() == ["joiner-1", "head"]
    assert table["datetime_complete"].isna().tolist() == [False, True]
    assert table["reason"].tolist()[0] == "gone"


def test_the_summary_fits_a_terminal() -> None:
    """Counts, pivot, best and causes, four significant digits."""
    text = results(trial(0, 0.98333333), trial(1, 0.5, model="forest", dataset="wine"), failed(2), failed(3)).summary()
    assert text.splitlines() == [
        "sample: 4/4  ok 2  failed 2  running 0",
        "accuracy (max)  wine  iris",
        "svc             -     0.9833",
        "forest          0.5   -",
        "best accuracy 0.9833: svc on iris, C=0.5, kernel=rbf (trial 0)",
        "2 trials, one cause: ValueError at cell 7 line 12: bad",
    ]
    assert repr(results(trial(0))) == results(trial(0)).summary()


def test_a_notebook_breaks_no_trial_id_over_two_lines() -> None:
    """The frame is pandas' own all the same, compares as one, and what is made of it is shown as pandas does."""
    found = results(trial(0), trial(1, model="forest"))
    for data in (found.dataframe, found.best_per_pair()):
        assert type(data) is pd.DataFrame
        pd.testing.assert_frame_equal(data, data.copy())
        shown, plain = data._repr_html_(), data.copy()._repr_html_()  # type: ignore[operator]  # its stubs
        assert plain in shown
        assert "white-space:nowrap" in shown.removesuffix(plain)
        assert "white-space:nowrap" not in plain
        with pd.option_context("display.notebook_repr_html", False):
            assert data._repr_html_() is None  # type: ignore[operator]


def test_csv_has_iso_times(tmp_path: Path) -> None:
    """And reads back as the same table."""
    path = results(trial(0), failed(1)).save(tmp_path / "r.csv")
    assert "2026-11-22T20:30:00.000000Z,2026-11-22T20:30:00.500000Z" in path.read_text()
    again = pd.read_csv(path)
    assert list(again.columns) == list(results(trial(0)).dataframe.columns)
    assert again["config/C"].tolist() == [0.5, 0.5]


def test_a_csv_is_as_pandas_reads_it_or_safe_for_a_spreadsheet(tmp_path: Path) -> None:
    """Texts come back as they were; when asked, what a spreadsheet would compute begins with an apostrophe."""
    odd = results(failed(0, "=cmd|' /C calc'!A0"), failed(1, "@SUM(1)"), trial(2, -0.5), trial(3, config={"C": "-x"}))
    as_is = pd.read_csv(odd.save(tmp_path / "a.csv"))
    assert as_is["error"].tolist()[:2] == ["=cmd|' /C calc'!A0", "@SUM(1)"]
    safe = pd.read_csv(odd.save(tmp_path / "b.csv", safe_csv=True))
    assert safe["error"].tolist()[:2] == ["'=cmd|' /C calc'!A0", "'@SUM(1)"]
    assert safe["accuracy"].tolist()[2] == -0.5, "a number is no text"
    assert safe["config/C"].tolist()[3] == "'-x"


def test_json_is_a_list_of_row_objects(tmp_path: Path) -> None:
    """Strict JSON: ISO times, null for what is absent or not a number."""
    path = results(trial(0, math.nan), trial(1, model="forest")).save(tmp_path / "r.JSON")
    first, second = json.loads(path.read_text())
    assert list(first) == list(second) == list(results(trial(0), trial(1, model="forest")).dataframe.columns)
    assert (first["accuracy"], first["datetime_start"]) == (None, "2026-11-22T20:30:00.000000Z")
    assert (first["config/C"], second["config/C"], second["config/max_depth"]) == (0.5, None, 4)


def test_parquet_takes_mixed_parameters_as_text(tmp_path: Path) -> None:
    """Kinds that a Parquet column can hold come back as they were."""
    rows = [trial(0, config={"m": "sqrt", "depth": 2}), trial(1, config={"m": 0.5, "depth": None})]
    data = pd.read_parquet(results(*rows).save(tmp_path / "r.parquet"))
    assert data["config/m"].tolist() == ["sqrt", "0.5"]
    assert str(data["config/depth"].dtype) == "Int64"
    assert str(data["datetime_start"].dt.tz) == "UTC"


def test_lists_and_dicts_are_shown_and_kept_as_json(tmp_path: Path) -> None:
    """Grouped by in a data frame, JSON text in CSV and Parquet, what they are in JSON and in `best`; read aloud too."""
    rows = [
        trial(0, 0.9, config={"h": [64, {"a": None}]}),
        trial(1, config={"h": [64, math.inf]}),
        trial(2, config={"h": 3}),
    ]
    found = results(*rows)
    assert found.dataframe["config/h"].tolist()[:2] == ['[64, {"a": null}]', "[64, Infinity]"]
    assert len(found.dataframe.groupby("config/h")) == 3
    assert found.best is not None
    assert found.best["config/h"] == [64, {"a": None}]
    assert 'h=[64, {"a": null}]' in found.summary()
    assert pd.read_csv(found.save(tmp_path / "r.csv"))["config/h"][0] == '[64, {"a": null}]'
    assert pd.read_parquet(found.save(tmp_path / "r.parquet"))["config/h"][0] == '[64, {"a": null}]'
    kept = json.loads(found.save(tmp_path / "r.json").read_text())
    assert [row["config/h"] for row in kept] == [[64, {"a": None}], [64, None], 3]
    assert compute_line({"h": [math.inf, {"a": "b"}]}) == 'compute(h=[float("inf"), {"a": "b"}])'


ODD: list[Scalar] = [
    *(math.nan, math.inf, -math.inf, 2**70, 10**400, -0.0, 1e-320, True, None),
    *("", "nan", 'a,"b"\n;c', "\r", "x\ry", "\0", "\u2028\U0001f600", "lone \udcff", "=1+1"),
]


@pytest.mark.parametrize("name", ["r.csv", "r.json", "r.parquet"])
def test_odd_values_cost_no_row_and_no_column(tmp_path: Path, name: str) -> None:
    """Whatever a configuration or a metric holds: as many rows and columns come back, under their names."""
    rows = [
        trial(number, value, config={"x": value, 'odd\n"name",\r': value, "steady": number}, error=str(value))
        for number, value in enumerate(ODD)
    ]
    found = results(*rows)
    path = found.save(tmp_path / name)
    read = {
        "r.csv": lambda: pd.read_csv(path),
        "r.json": lambda: pd.DataFrame(json.loads(path.read_text()), dtype=object),  # pandas 2 stops at 10**400
        "r.parquet": lambda: pd.read_parquet(path),
    }
    again = read[name]()
    assert list(again.columns) == list(found.dataframe.columns)
    assert again["config/steady"].tolist() == list(range(len(ODD)))
    assert again["config/x"].tolist()[ODD.index("lone \udcff")] == "lone \ufffd"


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    """The sentence names the three there are."""
    with pytest.raises(UsageError, match=r"cannot be saved as 'r\.xlsx': end the name in \.csv, \.parquet or \.json"):
        results(trial(0)).save(tmp_path / "r.xlsx")
    with pytest.raises(UsageError, match=r"^results cannot be written as 'yaml': choose csv or json"):
        results(trial(0)).as_text("yaml")


@pytest.mark.parametrize("name", ["r.csv", "r.json", "r.parquet"])
def test_a_folder_that_is_not_there_is_said(tmp_path: Path, name: str) -> None:
    """And an old file is never half replaced: the new one is written beside it."""
    with pytest.raises(UsageError, match=r"cannot save results to .*choose a folder"):
        results(trial(0)).save(tmp_path / "nowhere" / name)
    path = results(trial(0)).save(tmp_path / name)
    assert list(tmp_path.iterdir()) == [path]


def test_a_model_of_an_earlier_declaration_keeps_its_place() -> None:
    """Rows of a model or data set no longer declared are shown after the declared ones."""
    pivot = results(trial(0, model="old", dataset="past")).pivot()
    assert list(pivot.index) == ["svc", "forest", "old"]
    assert list(pivot.columns) == ["wine", "iris", "past"]
