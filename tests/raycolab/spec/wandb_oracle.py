"""What W&B's own code (`sweeps` on PyPI) makes of parameters, grids and hyperband: the cases, and how it was recorded.

`sweeps` wants numpy below 2, which has no wheel for Python 3.13 and is not what our tests run with: it cannot be among
the packages of `[test]`. It was asked in an environment of its own. What is run there also compares every distribution
at all 20,001 quantiles, where the record keeps a hundredth of the continuous ones:

    python3.11 -m venv /tmp/wandb && /tmp/wandb/bin/pip install sweeps==0.3.0 msgspec pyyaml optuna
    /tmp/wandb/bin/python -m tests.raycolab.spec.wandb_oracle
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["GRIDS", "HYPERBANDS", "PARAMETERS", "RECORD", "UNITS", "histories", "is_continuous", "runs_of"]

RECORD = Path(__file__).with_name("wandb_oracle.json")
_QUANTILES = 20_001
UNITS = [(index + 0.5) / _QUANTILES for index in range(_QUANTILES)]
_KEPT = 100


def _of(distribution: str, *keys: str) -> Any:
    return lambda *values: {"distribution": distribution, **dict(zip(keys, values, strict=False))}


_BOUNDS = ("min", "max", "q")
_q_uniform = _of("q_uniform", *_BOUNDS)
_q_log = _of("q_log_uniform_values", *_BOUNDS)

# Every distribution of the published schema; those in steps with bounds on and off the grid of q.
PARAMETERS: list[dict[str, Any]] = [
    {"value": 3},
    {"value": [1, {"a": 2}]},
    {"values": ["a", None, 3, [1, 2]]},
    {"values": ["a", "b", "c"], "probabilities": [0.2, 0.0, 0.8]},
    {"min": 1, "max": 7},
    {"min": 0.0, "max": 3},
    _of("int_uniform", "min", "max")(-3, 12),
    _of("uniform", "min", "max")(1, 5),
    _of("log_uniform", "min", "max")(0.5, 3),
    _of("log_uniform", "min", "max")(-9.2, -2),
    _of("log_uniform_values", "min", "max")(1e-5, 0.1),
    _of("inv_log_uniform", "min", "max")(1, 4),
    _of("inv_log_uniform_values", "min", "max")(1e-3, 1),
    _of("normal", "mu", "sigma")(),
    _of("normal", "mu", "sigma")(3, 0.5),
    _of("log_normal", "mu", "sigma")(-1, 0.7),
    _of("beta", "a", "b")(2, 5),
    _of("beta", "a", "b")(0.5, 0.5),
    *itertools.starmap(
        _q_uniform,
        [
            (0, 1, 0.25),
            (0.1, 0.9, 0.25),
            (0.1, 0.4, 0.25),
            (-1, 1, 0.3),
            (0, 10, 3),
            (2, 9, 5),
            (0.1, 0.9, 1),
            (0, 3),
            (16.5, 255.5, 16),
        ],
    ),
    *itertools.starmap(_q_log, [(32, 256, 8), (1, 100, 10), (1e-4, 0.1, 0.01), (1, 9), (0.3, 0.6, 1)]),
    *itertools.starmap(_of("q_log_uniform", *_BOUNDS), [(0, 3, 2), (-2, 1, 0.5), (0, 2)]),
    *itertools.starmap(_of("q_normal", "mu", "sigma", "q"), [(0, 1, 0.5), (3, 2, 2)]),
    *itertools.starmap(_of("q_log_normal", "mu", "sigma", "q"), [(0, 1, 0.25), (1, 0.5)]),
    *itertools.starmap(_of("q_beta", "a", "b", "q"), [(2, 5, 0.1), (1, 1, 0.3)]),
]

GRIDS: list[dict[str, Any]] = [
    {"x": _q_uniform(0, 1, 0.25)},
    {"x": _q_uniform(0.1, 0.9, 0.25), "y": {"values": [1, 2]}},
    {"x": _q_uniform(0, 10, 2)},
    {"x": _q_uniform(0, 4), "y": {"value": 7}},
    {"x": {"min": 1, "max": 3}, "y": {"values": [[1, 2], {"a": 1}]}},
]


def _hyperbands() -> Iterator[dict[str, Any]]:
    """40 settings."""
    steps: list[dict[str, Any]] = [
        *({"max_iter": most, "s": s, "eta": eta} for most, s, eta in [(10, 2, 3), (27, 2, 3), (27, 9, 3), (9, 3, 2)]),
        *({"max_iter": most, "s": s} for most, s in [(20, 1), (4, 1)]),
        {"max_iter": 20, "s": 4, "eta": 1.5},
        *({"min_iter": least, "eta": eta} for least, eta in [(1, 2), (3, 1.5)]),
        {"min_iter": 4},
    ]
    for index, (step, strict, goal) in enumerate(itertools.product(steps, [True, False], ["minimize", "maximize"])):
        yield {**step, "strict": strict, "goal": goal, "seed": index}


HYPERBANDS = list(_hyperbands())


def histories(seed: int) -> list[list[float]]:
    """What sixteen runs have reported so far; now and then it is no number."""
    chance = random.Random(seed)
    found = []
    for _ in range(16):
        level, values = chance.random(), []
        for step in range(chance.randrange(0, 31)):
            noise = chance.random()
            values.append(math.nan if noise < 0.05 else round(level + noise + 3 / (step + 1), 3))
        found.append(values)
    return found


def is_continuous(parameter: dict[str, Any]) -> bool:
    """Whether its values are to be compared at a hundredth of the quantiles, not by their shares."""
    name = parameter.get("distribution", "uniform" if isinstance(parameter.get("min"), float) else "")
    return not name.startswith("q_") and name not in ("", "int_uniform")


def runs_of(values: Iterable[Any]) -> list[list[Any]]:
    """Each value with how many quantiles in a row have it; a 0 is one whatever its sign."""
    texts = (json.dumps(value + 0 if isinstance(value, float) else value) for value in values)
    return [[json.loads(text), len(list(run))] for text, run in itertools.groupby(texts)]


def _record() -> dict[str, Any]:
    """What `sweeps` says to each case."""
    import numpy as np
    from sweeps.grid_search import grid_search_next_runs
    from sweeps.hyperband_stopping import hyperband_stop_runs
    from sweeps.params import HyperParameter
    from sweeps.run import RunState, SweepRun

    def values(parameter: dict[str, Any]) -> list[Any]:
        if "probabilities" in parameter:
            # As it samples: what it makes of many quantiles at once is another thing.
            return [HyperParameter("x", parameter).ppf(unit) for unit in UNITS]
        found = HyperParameter("x", parameter).ppf(np.array(UNITS))
        if "value" in parameter:
            return [found] * len(UNITS)
        return found.tolist() if isinstance(found, np.ndarray) else list(found)

    def grid(parameters: dict[str, Any]) -> list[Any]:
        runs: list[Any] = []
        while True:
            (found,) = grid_search_next_runs(runs, {"method": "grid", "parameters": parameters})
            if found is None:
                return [{name: each["value"] for name, each in run.config.items()} for run in runs]
            runs.append(found)

    def stopped(setting: dict[str, Any]) -> dict[str, Any]:
        runs = [
            SweepRun(name=str(index), state=RunState.running, history=[{"loss": value} for value in history])
            for index, history in enumerate(histories(setting["seed"]))
        ]
        stop = {key: value for key, value in setting.items() if key not in ("goal", "seed")}
        config = {
            "method": "random",
            "metric": {"name": "loss", "goal": setting["goal"]},
            "early_terminate": {"type": "hyperband", **stop},
        }
        ended = hyperband_stop_runs(runs, config)
        return {"bands": runs[0].early_terminate_info["bands"], "ended": [int(run.name) for run in ended]}

    return {
        "parameters": [values(parameter) for parameter in PARAMETERS],
        "grids": [grid(parameters) for parameters in GRIDS],
        "hyperbands": [stopped(setting) for setting in HYPERBANDS],
    }


def _same(our: Any, their: Any) -> bool:
    if isinstance(our, int | float) and isinstance(their, int | float):
        return math.isclose(our, their, rel_tol=1e-7, abs_tol=1e-12)
    return bool(our == their)


def _compare(recorded: dict[str, Any]) -> None:
    from raycolab.spec.wandb import wandb_domain

    for parameter, theirs in zip(PARAMETERS, recorded["parameters"], strict=True):
        domain = wandb_domain(parameter)
        ours = [domain.at(unit) for unit in UNITS]
        other = sum(not _same(our, their) for our, their in zip(ours, theirs, strict=True))
        print(f"{other:6d} of {len(UNITS)} quantiles differ: {parameter}")  # noqa: T201 - for who records


def _main() -> None:
    recorded = _record()
    _compare(recorded)
    recorded["parameters"] = [
        values[::_KEPT] if is_continuous(parameter) else runs_of(values)
        for parameter, values in zip(PARAMETERS, recorded["parameters"], strict=True)
    ]
    lines = ",\n".join(
        f"{json.dumps(part)}: [\n" + ",\n".join(map(json.dumps, cases)) + "\n]" for part, cases in recorded.items()
    )
    RECORD.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    _main()
