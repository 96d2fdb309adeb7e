"""optuna-dashboard on studies that follow what sweeps find."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
import urllib.request

import pytest

from raycolab.errors import UsageError
from raycolab.results.dashboard import LiveStudies, serve
from raycolab.results.table import Results
from raycolab.trials import TrialState
from tests.raycolab.results.sweeps import finished_sweep


def part_of(results: Results, count: int) -> Results:
    """The first so many trials; the others wait."""
    waiting = [dataclasses.replace(row, state=TrialState.PENDING, attempts=0) for row in results.rows[count:]]
    rows = [*results.rows[:count], *waiting]
    return Results(
        results.metric,
        rows,
        models=results.models,
        datasets=results.datasets,
        name=results.name,
        reports=results.reports,
        declared=results._declared,
    )


def test_each_pair_is_a_study_that_grows() -> None:
    """A trial is there once, as soon as it has ended."""
    results, live = finished_sweep(), LiveStudies()
    for count in (30, 30, 50, len(results)):
        live.add(part_of(results, count))
        studies = live.storage.get_all_studies()
        trials = [trial for study in studies for trial in live.storage.get_all_trials(study._study_id)]
        assert sorted(trial.user_attrs["number"] for trial in trials) == list(range(count))
    pairs = {f"sample/{model}/{dataset}" for model in results.models for dataset in results.datasets}
    assert {study.study_name for study in studies} == pairs


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(UsageError, match=r"optuna-dashboard is not installed: run `pip install 'raycolab\[dashboard"):
        serve(list, 0)


@pytest.mark.slow
def test_the_real_dashboard_shows_what_comes() -> None:
    """Against the real package: what ends after it was opened is there a few seconds later."""
    pytest.importorskip("optuna_dashboard", reason="it is an extra")
    results = finished_sweep()
    states = iter([[part_of(results, 40)], [], [results]])
    port, end = serve(lambda: next(states, []), 0)

    def trials() -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies") as answer:
            studies = json.load(answer)["study_summaries"]
        counts = []
        for study in studies:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies/{study['study_id']}?after=0") as answer:
                counts.append(len(json.load(answer)["trials"]))
        return sum(counts)

    assert trials() == 40
    deadline = time.monotonic() + 60
    while trials() < len(results):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    end()
