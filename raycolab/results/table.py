"""What a sweep found, as pandas shows it: the table, the best, models x datasets, the failures, and files of them.

`Results` is a picture of the rows at one moment, whatever they had reached; ask the sweep again for a newer one. It
reaches no database and no cluster.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from raycolab.errors import UsageError
from raycolab.results.frame import TIME_COLUMNS, Columns, frame, on_one_line, row_dict, times, trial_columns
from raycolab.summary import PairTally, Tally, causes
from raycolab.text import config_text, did_you_mean, failure_text, listed, number_text, tally_text, utc_text
from raycolab.trials import FINAL_STATES, AttemptRow, Metric, SetupFailure, SweepRow, TrialRow, TrialState

if TYPE_CHECKING:  # Optuna takes half a second to import
    from raycolab.results.study import Study
    from raycolab.spec.spec import SweepSpec
    from raycolab.view.panels import Findings

__all__ = ["Results"]

_MOST_DETAILS = 3
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # how a spreadsheet knows one
_CSV_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class Results:
    """The trials of one sweep at one moment; `models` and `datasets` give the order of `pivot`.

    `declared` is the sweep's own row, which `to_study` and `report` read spaces, code and versions from.
    """

    def __init__(
        self,
        metric: Metric,
        rows: Sequence[TrialRow],
        attempts: Sequence[AttemptRow] = (),
        *,
        models: Sequence[str],
        datasets: Sequence[str],
        name: str = "sweep",
        reports: Mapping[int, Mapping[int, float]] | None = None,
        declared: SweepRow | None = None,
    ) -> None:
        self.metric = metric
        self.name = name
        self.rows = sorted(rows, key=lambda row: row.number)
        self._attempts = list(attempts)
        self._reports = reports or {}
        self._declared = declared
        self.models = list(dict.fromkeys([*models, *(row.model for row in self.rows)]))
        self.datasets = list(dict.fromkeys([*datasets, *(row.dataset for row in self.rows)]))

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def dataframe(self) -> pd.DataFrame:
        """One row per trial: number trial_id model dataset state, metrics, config/..., then where, when and errors."""
        return on_one_line(frame(self._columns))

    @property
    def best(self) -> dict[str, Any] | None:
        """The best trial's row as a dict with the data frame's names, or None while no trial has a comparable metric.

        Only COMPLETE trials with a finite metric compete; of equals the lowest number wins. Parameters its
        model does not have are left out; times are UTC datetimes.
        """
        if self.best_trial is None:
            return None
        return row_dict(self.best_trial, self.name, self.metric)

    @property
    def best_trial(self) -> TrialRow | None:
        """The best trial's row of the database, or None."""
        return next(iter(self._ranked), None)

    def best_per_pair(self) -> pd.DataFrame:
        """The best trial of every pair that has one, in declared order, with `dataframe`'s columns."""
        numbers = [row.number for row in self._best_of_pairs.values()]
        return on_one_line(self.dataframe.set_index("number", drop=False).loc[numbers].reset_index(drop=True))

    def pivot(self) -> pd.DataFrame:
        """Models x datasets in declared order, the best metric in each cell, NaN where there is none yet."""
        best = self._best_of_pairs
        cells = [
            [self.metric.value_of(best[model, data]) if (model, data) in best else math.nan for data in self.datasets]
            for model in self.models
        ]
        return pd.DataFrame(
            cells,
            index=pd.Index(self.models, name="model"),
            columns=pd.Index(self.datasets, name="dataset"),
            dtype="float64",
        )

    @property
    def errors(self) -> pd.DataFrame:
        """FAILED and LOST trials grouped by cause, the most frequent first, each with its first trial as example.

        Columns: count cause error_kind error cell line trial model dataset node traceback output. Before them comes why
        MAIN could not be set up, with error_kind `setup`, the nodes and their count, and no trial.
        """
        failed = self._setup_failures
        nodes = [", ".join(each.nodes) for each in failed]
        setups = [
            TrialRow(
                *(-1, "", "", None, TrialState.FAILED),
                node=on,
                error_kind=each.failure.kind,
                error=each.failure.summary,
                traceback=each.failure.traceback,
                cell_index=each.failure.cell_index,
                output=each.failure.output,
            )
            for on, each in zip(nodes, failed, strict=True)
        ]
        found = [replace(causes([row])[0], count=len(each.nodes)) for row, each in zip(setups, failed, strict=True)]
        found += causes(self.rows)
        first = [cause.example for cause in found]
        ran = [row if row.number >= 0 else None for row in first]
        columns: dict[str, tuple[list[Any], str]] = {
            "count": ([cause.count for cause in found], "int64"),
            "cause": ([cause.text for cause in found], "string"),
            "error_kind": ([row.error_kind and row.error_kind.value for row in first], "string"),
            "error": ([row.error for row in first], "string"),
            "cell": ([row.cell_index for row in first], "Int64"),
            "line": ([cause.line for cause in found], "Int64"),
            "trial": ([row and row.number for row in ran], "Int64"),
            "model": ([row and row.model for row in ran], "string"),
            "dataset": ([row and row.dataset for row in ran], "string"),
            "node": ([row.node for row in first], "string"),
            "traceback": ([row.traceback for row in first], "string"),
            "output": ([row.output for row in first], "string"),
        }
        table = pd.DataFrame({name: values for name, (values, _) in columns.items()})
        return table.astype({name: kind for name, (_, kind) in columns.items()})

    @property
    def attempts(self) -> pd.DataFrame:
        """Every try at every trial: number attempt node outcome datetime_start datetime_complete reason."""
        tries = self._attempts
        return pd.DataFrame(
            {
                "number": pd.array([item.trial for item in tries], dtype="int64"),
                "attempt": pd.array([item.number for item in tries], dtype="int64"),
                "node": pd.array([item.node for item in tries], dtype="string"),
                "outcome": pd.array([item.outcome for item in tries], dtype="string"),
                "datetime_start": times([item.started_at for item in tries]),
                "datetime_complete": times([item.ended_at for item in tries]),
                "reason": pd.array([item.reason for item in tries], dtype="string"),
            }
        )

    def counts(self) -> dict[str, int]:
        """How many trials there are in all (`total`) and in each state, by the names of `status --json`."""
        found = Counter(row.state for row in self.rows)
        return {"total": len(self.rows), **{state.value.lower(): found[state] for state in TrialState}}

    def summary(self) -> str:
        """A few lines for a terminal: the counts, the pivot, the best trial, the causes of failures."""
        return "\n".join([self.headline(), *self._pivot_lines(), *self.closing_lines()])

    def headline(self) -> str:
        """`sample_experiment: 137/480  ok 120  failed 9  running 5`."""
        return f"{self.name}: {tally_text(self.counts())}"

    def closing_lines(self) -> list[str]:
        """The best trial in words, if there is one, and a line per cause of failures."""
        lines = [each.headline for each in self._setup_failures]
        lines += [cause.headline for cause in causes(self.rows)]
        if (best := self.best_trial) is None:
            return lines
        value = number_text(self.metric.value_of(best))
        settings = f", {config_text(best.config)}" if best.config else ""
        where = f"{best.model} on {best.dataset}{settings} (trial {best.number})"
        return [f"best {self.metric.name} {value}: {where}", *lines]

    def failure_details(self) -> list[str]:
        """Cell, line, traceback and last output of what `closing_lines` names: setups, and the most frequent causes."""
        shown = [
            (f"MAIN's setup on {', '.join(each.nodes)}:", each.failure.traceback, each.failure.output)
            for each in self._setup_failures
        ]
        for cause in causes(self.rows)[: _MOST_DETAILS - len(shown)]:
            row = cause.example
            shown.append((f"{row.title} on {row.node or 'no node'}:", row.traceback or "", row.output or ""))
        return [failure_text(*each) for each in shown if any(text.strip() for text in each[1:])]

    def as_text(self, kind: str, *, safe_csv: bool = False) -> str:
        """The whole table as "csv", or as "json": a list of row objects, times in ISO 8601, null for absent and NaN.

        A CSV holds the texts as they are, as pandas reads them back. With `safe_csv` one that a spreadsheet would take
        for a formula begins with an apostrophe.
        """
        if kind == "csv":
            frame = self.dataframe.map(_no_formula) if safe_csv else self.dataframe
            text = _csv(frame, "\n")
            # Python before 3.13 quotes a carriage return only where lines end in one, and readers end a row there.
            return _csv(frame, "\r\n") if "\r" in text else text
        if kind == "json":
            return json.dumps(_json_rows(self._columns), allow_nan=False) + "\n"
        raise UsageError(f"results cannot be written as '{kind}': choose csv or json.")

    def best_text(self) -> str | None:
        """The best trial as a JSON object, or None while there is none."""
        row = self.best_trial
        return None if row is None else json.dumps(_json_rows(trial_columns([row], self.name, self.metric))[0])

    @property
    def curves(self) -> pd.DataFrame:
        """What trials reported on their way, a row for each step: number step value."""
        points = [
            (number, step, value)
            for number, steps in sorted(self._reports.items())
            for step, value in sorted(steps.items())
        ]
        table = pd.DataFrame(points, columns=["number", "step", "value"])
        return table.astype({"number": "int64", "step": "int64", "value": "float64"})

    def to_study(self, model: str | None = None, dataset: str | None = None) -> Study:
        """The trials of one pair, of one model or dataset, or all as an Optuna study in memory, for Optuna's plots.

        They are in the order of their numbers, intermediate values too. In a study of several pairs `model` and
        `dataset` are parameters, and one that means another range to another model is called `model/parameter`. A trial
        without a finite metric is a failed one there; our number, state, node and error are user attributes. UsageError
        for a model or dataset that is not the sweep's.
        """
        from raycolab.results.study import optuna_study

        for kind, given, known in (("model", model, self.models), ("dataset", dataset, self.datasets)):
            if given is not None and given not in known:
                raise UsageError(
                    f"{self.name} has no {kind} {given!r}{did_you_mean(given, known)}: it has {listed(known)}."
                )
        rows = [row for row in self.rows if model in (None, row.model) and dataset in (None, row.dataset)]
        name = "/".join([self.name, *(part for part in (model, dataset) if part is not None)])
        return optuna_study(name, rows, self._reports, self.spec.models, self.metric)

    def to_mlflow(self, tracking_uri: str | None = None, *, experiment: str | None = None) -> int:
        """Every trial that has ended as a run of MLflow, in the experiment named like the sweep; how many are new.

        `tracking_uri` is MLflow's, `sqlite:///mlflow.db` for example; without it MLflow's own default. Parameters,
        metrics, what was reported by step, times, state and tags are there. Exporting again adds only what is new, and
        replaces a trial that was run again. Needs mlflow: `pip install 'raycolab[mlflow]'`.
        """
        from raycolab.results.mlflow import export

        rows = [row for row in self.rows if row.state in FINAL_STATES]
        spec = None if self._declared is None else self.spec
        return export(tracking_uri, experiment or self.name, self.name, rows, self._reports, self.metric, spec)

    @property
    def reports(self) -> Mapping[int, Mapping[int, float]]:
        """What trials reported on their way, by number and step."""
        return self._reports

    @property
    def spec(self) -> SweepSpec:
        """What was declared; UsageError where that is not known."""
        from raycolab.spec.spec import SweepSpec

        if self._declared is None:
            raise UsageError("these results know no search space: take `results` from the sweep itself.")
        return SweepSpec.from_json(self._declared.spec)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Writes one self-contained HTML page about the sweep, whole or not at all; returns its absolute path."""
        from raycolab.view.report import page

        target = _target(path, ("html", "htm"), "a report", "end the name in .html.")
        return _written(target, "the report", lambda beside: _write_text(beside, page(self._findings())))

    def save(self, path: str | os.PathLike[str], *, safe_csv: bool = False) -> Path:
        """Writes the table to a .csv, .parquet or .json file, whole or not at all; returns its absolute path.

        `safe_csv` is that of `as_text`.
        """
        target = _target(path, ("csv", "parquet", "json"), "results", "end the name in .csv, .parquet or .json.")
        kind = target.suffix.lower()[1:]

        def write(beside: Path) -> None:
            if kind == "parquet":
                _one_kind_per_column(self.dataframe).to_parquet(beside, index=False)
            else:
                _write_text(beside, self.as_text(kind, safe_csv=safe_csv))

        return _written(target, "results", write)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        from raycolab.view.panels import results_panel

        return results_panel(self._findings())

    @property
    def _setup_failures(self) -> tuple[SetupFailure, ...]:
        return () if self._declared is None else self._declared.setup_failures

    def _findings(self) -> Findings:
        from raycolab.view.panels import Findings

        return Findings(
            name=self.name,
            metric=self.metric,
            counts=self.counts(),
            rows=self.rows,
            attempts=self._attempts,
            models=self.models,
            datasets=self.datasets,
            best=self.best_trial,
            best_of_pairs=self._best_of_pairs,
            pairs=self._pairs,
            reports=self._reports,
            declared=self._declared,
        )

    @cached_property
    def _columns(self) -> Columns:
        return trial_columns(self.rows, self.name, self.metric)

    @cached_property
    def _pairs(self) -> list[PairTally]:
        tally = Tally(self.metric)
        for row in self.rows:
            tally.moved(None, row)
        return list(tally.pairs.values())

    @cached_property
    def _ranked(self) -> list[TrialRow]:
        """The trials that may be the best, from best to worst; of equals the lowest number comes first."""
        comparable = [row for row in self.rows if self.metric.objective(row) is not None]
        return sorted(comparable, key=self.metric.value_of, reverse=self.metric.mode == "max")

    @cached_property
    def _best_of_pairs(self) -> dict[tuple[str, str], TrialRow]:
        """In declared order, without the pairs that have none."""
        best: dict[tuple[str, str], TrialRow] = {}
        for row in self._ranked:
            best.setdefault((row.model, row.dataset), row)
        declared = itertools.product(self.models, self.datasets)
        return {pair: best[pair] for pair in declared if pair in best}

    def _pivot_lines(self) -> list[str]:
        cells = [[f"{self.metric.name} ({self.metric.mode})", *self.datasets]]
        for model, values in zip(self.models, self.pivot().to_numpy(), strict=True):
            cells.append([model, *("-" if math.isnan(value) else number_text(value) for value in values)])
        widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _csv(frame: pd.DataFrame, line_end: str) -> str:
    return str(frame.to_csv(index=False, date_format=_CSV_TIME, lineterminator=line_end))


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value


def _target(path: str | os.PathLike[str], kinds: Sequence[str], what: str, cure: str) -> Path:
    target = Path(path).expanduser().absolute()
    if target.suffix.lower()[1:] not in kinds:
        raise UsageError(f"{what} cannot be saved as '{target.name}': {cure}")
    return target


def _written(target: Path, what: str, write: Callable[[Path], object]) -> Path:
    """`target`, written beside itself first, so that an old file is never half replaced."""
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        write(beside)
        beside.replace(target)
    except OSError as error:
        raise UsageError(
            f"cannot save {what} to {target}: {error.strerror or error}; choose a folder you may write to."
        ) from error
    finally:
        beside.unlink(missing_ok=True)
    return target


def _write_text(path: Path, text: str) -> None:
    # Line ends as they are; a lone surrogate in somebody's text costs that character.
    path.write_text(text, encoding="utf-8", errors="replace", newline="")


def _json_rows(columns: Columns) -> list[dict[str, Any]]:
    safe = {name: [_json_value(value, name in TIME_COLUMNS) for value in values] for name, values in columns.items()}
    return [dict(zip(safe, values, strict=True)) for values in zip(*safe.values(), strict=True)]


def _json_value(value: Any, is_time: bool) -> Any:
    if isinstance(value, list | dict):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        plain = {key: _json_value(inner, False) for key, inner in items}
        return plain if isinstance(value, dict) else list(plain.values())
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return utc_text(value) if is_time else value


def _one_kind_per_column(data: pd.DataFrame) -> pd.DataFrame:
    """Parquet holds one kind per column: mixed ones (`max_features` of "sqrt" or 0.5) become text."""
    mixed = [name for name in data.columns if data[name].dtype == object]
    texts = {name: pd.array([None if v is None else str(v) for v in data[name]], dtype="string") for name in mixed}
    return data.assign(**texts)
