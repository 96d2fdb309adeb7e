"""Finished sweeps as the store gives them, without running any."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import raycolab
from raycolab.main.notebook import MainNotebook
from raycolab.results.table import Results
from raycolab.search import enumerate_trials
from raycolab.spec.spec import SweepSpec
from raycolab.trials import AttemptRow, ErrorKind, SweepRow, SweepState, TrialRow, TrialState

__all__ = ["NOW", "declared", "ended", "finished_sweep", "sweep_row"]

NOW = 1_795_379_400.0
MAIN = Path(__file__).resolve().parents[3] / "examples" / "MAIN.ipynb"


def declared(jobs: int = 20, **changes: object) -> SweepSpec:
    """A sweep of two models with different spaces over two datasets."""
    arguments: dict[str, object] = {
        "models": {
            "svc": {"C": raycolab.loguniform(1e-3, 1e3), "kernel": ["rbf", "poly"], "cv": 5},
            "forest": {"max_features": ["sqrt", 0.5, None], "optimizer": {"lr": raycolab.uniform(0, 1)}},
        },
        "datasets": ["iris", "wine"],
        "jobs_per_pair": jobs,
        "metric": "accuracy",
        "seed": 0,
    }
    return SweepSpec.from_arguments("sample", **(arguments | changes))


def ended(row: TrialRow, number: float) -> TrialRow:
    """The trial, COMPLETE with this accuracy, half a second after its start."""
    return dataclasses.replace(
        row,
        state=TrialState.COMPLETE,
        metrics={"accuracy": number, "fit_s": 0.25},
        node=f"joiner-{row.number % 2 + 1}",
        attempts=1,
        started_at=NOW + row.number,
        ended_at=NOW + row.number + 0.5,
    )


def failed(row: TrialRow) -> TrialRow:
    """The trial, FAILED in cell 7."""
    text = "  cell 7, line 12, in compute\nValueError: <bad> & worse"
    return dataclasses.replace(
        ended(row, 0.0),
        state=TrialState.FAILED,
        metrics={},
        error_kind=ErrorKind.EXCEPTION,
        error="ValueError: <bad> & worse (cell 7)",
        traceback=text,
        cell_index=7,
        output="epoch <1>",
    )


def sweep_row(spec: SweepSpec) -> SweepRow:
    """Its row of the database, with the example's MAIN."""
    main = MainNotebook.load(MAIN)
    return SweepRow(
        id=1,
        name=spec.name,
        state=SweepState.COMPLETE,
        spec=spec.to_json(),
        main=main.to_json(),
        spec_fingerprint=spec.fingerprint(),
        code_fingerprint=main.code_fingerprint(),
        created_at=NOW,
        versions={"python": "3.13.15", "ray": "2.60.0"},
    )


def finished_sweep(spec: SweepSpec | None = None, *, failures: int = 3, seed: int = 0) -> Results:
    """Its results: the better the nearer C is to 1 or lr to 0.5; one trial in ten failed."""
    spec = spec or declared()
    chance = random.Random(seed)
    rows: list[TrialRow] = []
    for row in enumerate_trials(spec):
        config = row.config or {}
        lr, c = config.get("optimizer/lr", 0.5), config.get("C", 1.0)
        assert isinstance(lr, float)
        assert isinstance(c, float)
        value = 0.9 - abs(lr - 0.5) - min(abs(c - 1), 100) / 500 + chance.gauss(0, 0.01)
        rows.append(failed(row) if failures and row.number % 10 == failures else ended(row, value))
    tries = [
        AttemptRow(row.number, 1, row.node or "", row.state.value, row.started_at or 0.0, row.ended_at) for row in rows
    ]
    return Results(
        spec.metric,
        rows,
        tries,
        models=tuple(spec.models),
        datasets=spec.datasets,
        name=spec.name,
        reports={row.number: {1: 0.5, 2: 0.25} for row in rows},
        declared=sweep_row(spec),
    )
