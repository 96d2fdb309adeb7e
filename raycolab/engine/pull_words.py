"""What the engine and a notebook that pulls trials say to each other, as JSON: a trial to run, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raycolab.schedule.commands import Assignment
from raycolab.trial import ErrorKind, Failure, Outcome, TrialState

__all__ = ["assignment_from_json", "assignment_to_json", "outcome_from_json", "outcome_to_json"]


def assignment_to_json(assignment: Assignment) -> dict[str, Any]:
    """A trial to run."""
    return {
        "ticket": assignment.ticket,
        "number": assignment.number,
        "model": assignment.model,
        "dataset": assignment.dataset,
        "config": dict(assignment.config),
    }


def assignment_from_json(words: Mapping[str, Any]) -> Assignment:
    """What `assignment_to_json` wrote."""
    return Assignment(words["ticket"], words["number"], words["model"], words["dataset"], words["config"])


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """How a trial ended."""
    failure = outcome.failure
    return {
        "state": outcome.state.value,
        "metrics": dict(outcome.metrics),
        "failure": failure
        and {
            "kind": failure.kind.value,
            "ename": failure.ename,
            "evalue": failure.evalue,
            "traceback": failure.traceback,
            "cell_index": failure.cell_index,
        },
        "started_at": outcome.started_at,
        "ended_at": outcome.ended_at,
        "output": outcome.output,
    }


def outcome_from_json(words: Mapping[str, Any]) -> Outcome:
    """What `outcome_to_json` wrote."""
    failed = words["failure"]
    failure = None if failed is None else Failure(**{**failed, "kind": ErrorKind(failed["kind"])})
    return Outcome(
        TrialState(words["state"]),
        words["metrics"],
        failure,
        words["started_at"],
        words["ended_at"],
        words["output"],
    )
