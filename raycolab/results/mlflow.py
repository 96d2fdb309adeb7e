"""Trials as runs of MLflow; the only door to it. A run knows its trial by tags, so nothing is added twice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from raycolab.errors import UsageError
from raycolab.trials import Metric, TrialRow, TrialState

if TYPE_CHECKING:
    from raycolab.spec.spec import SweepSpec

__all__ = ["export"]

_TRIAL, _ENDED = "raycolab.trial", "raycolab.ended"  # tags: which trial, and which end of it
_STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "FINISHED", TrialState.CANCELLED: "KILLED"}
_REFUSED = re.compile(r"[^\w\-. :/]", re.ASCII)  # what MLflow takes in no name
_LONGEST = 6000  # characters of a parameter
_MOST_AT_ONCE = 1000  # metrics, of which at most 100 parameters go beside them
_PAGE = 1000  # runs


def export(
    tracking_uri: str | None,
    experiment: str,
    sweep: str,
    rows: Sequence[TrialRow],
    reports: Mapping[int, Mapping[int, float]],
    metric: Metric,
    spec: SweepSpec | None,
) -> int:
    """Make a run of each of these trials that has none yet; how many that are. UsageError where MLflow is missing."""
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise UsageError("MLflow is not installed: run `pip install 'raycolab[mlflow]'` and try again.") from error
    client = MlflowClient(tracking_uri)
    found = client.get_experiment_by_name(experiment)
    of = client.create_experiment(experiment) if found is None else found.experiment_id
    there = {run.data.tags.get(_TRIAL): run for run in _runs(client, of)}
    about = {} if spec is None else _about(spec)
    new = 0
    for row in rows:
        tags = _tags(sweep, row) | about
        earlier = there.get(tags[_TRIAL])
        if earlier is not None:
            if earlier.data.tags.get(_ENDED) == tags[_ENDED]:
                continue
            client.delete_run(earlier.info.run_id)
        _log(client, of, row, reports.get(row.number, {}), metric, tags)
        new += 1
    return new


def _log(
    client: Any, experiment: str, row: TrialRow, steps: Mapping[int, float], metric: Metric, tags: Mapping[str, str]
) -> None:
    from mlflow.entities import Metric as Point
    from mlflow.entities import Param, RunTag

    begun, ended = (round((at or 0.0) * 1000) for at in (row.started_at or row.ended_at, row.ended_at))
    run = client.create_run(experiment, start_time=begun, run_name=row.title).info.run_id
    params = {"model": row.model, "dataset": row.dataset, **(row.config or {})}
    points = [Point(_name(f"{metric.name}/reported"), value, begun, step) for step, value in sorted(steps.items())]
    for name, value in row.metrics.items():
        if isinstance(value, int | float):
            points.append(Point(_name(name), Metric(name).value_of(row), ended, 0))
        else:
            params[f"result/{name}"] = value
    entries = [Param(_name(name), str(value)[:_LONGEST]) for name, value in params.items()]
    client.log_batch(run, tags=[RunTag(name, value) for name, value in tags.items()])
    for first in range(0, len(entries), 100):
        client.log_batch(run, params=entries[first : first + 100])
    for first in range(0, len(points), _MOST_AT_ONCE):
        client.log_batch(run, metrics=points[first : first + _MOST_AT_ONCE])
    client.set_terminated(run, _STATUS.get(row.state, "FAILED"), end_time=ended)


def _runs(client: Any, experiment: str) -> Iterator[Any]:
    page: Any = None
    while page is None or page.token:
        page = client.search_runs([experiment], max_results=_PAGE, page_token=page and page.token)
        yield from page


def _tags(sweep: str, row: TrialRow) -> dict[str, str]:
    known = {"node": row.node, "error": row.error, "same_as": row.same_as, "seed": row.seed}
    return {
        _TRIAL: f"{sweep}-{row.number}",
        _ENDED: f"{row.state} {row.attempts} {row.ended_at}",
        "raycolab.state": row.state.value,
        **{f"raycolab.{name}": str(value) for name, value in known.items() if value is not None},
    }


def _about(spec: SweepSpec) -> dict[str, str]:
    """What the declaration says for people."""
    notes = {"mlflow.note.content": spec.notes} if spec.notes else {}
    return {**notes, **dict.fromkeys(map(_name, spec.tags), "")}


def _name(text: str) -> str:
    return _REFUSED.sub("_", text)
