"""What sweeps are compared with, each a program of its own: `python -m tests.bench.rivals KIND RAY_ADDRESS FOLDER ...`.

It says one JSON line: `seconds` from the first trial's start to the last result, for as many trials as were asked for.
Everything is warm by then: Ray's workers have run a task, and what they call is loaded.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

__all__ = ["main"]

_WARM = 64  # tasks that run first, so that every worker is there


def _connect(address: str) -> None:
    ray.init(address=address, _node_ip_address="127.77.0.1", log_to_driver=False, configure_logging=False)


def _nothing(x: int) -> int:
    return x


def ray_nothing(address: str, _folder: str, count: str) -> dict[str, Any]:
    """One Ray task per trial, all submitted at once; `ray.get` of them all."""
    _connect(address)
    task = ray.remote(_nothing)
    ray.get([task.remote(number) for number in range(_WARM)])
    begun = time.time()
    ray.get([task.remote(number) for number in range(int(count))])
    return {"seconds": time.time() - begun}


def optuna_nothing(_address: str, folder: str, count: str) -> dict[str, Any]:
    """`Study.optimize` with SQLite storage, random sampling, one process."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{folder}/optuna-{time.time_ns()}.db"
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler())
    begun = time.time()
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), n_trials=int(count))
    return {"seconds": time.time() - begun}


def _report_nothing(config: dict[str, float]) -> None:
    from ray import tune

    tune.report({"score": config["x"], "begun": time.time()})


def tune_nothing(address: str, folder: str, count: str, *, used_again: bool = False) -> dict[str, Any]:
    """`Tuner.fit` as it comes: an actor, and so a process, per trial; or with actors that are used again."""
    from ray import tune

    _connect(address)
    tuner = tune.Tuner(
        tune.with_resources(_report_nothing, {"cpu": 1}),
        param_space={"x": tune.uniform(0.0, 1.0)},
        tune_config=tune.TuneConfig(num_samples=int(count), metric="score", mode="max", reuse_actors=used_again),
        run_config=tune.RunConfig(storage_path=folder, name=f"tune-{time.time_ns()}", verbose=0),
    )
    found = tuner.fit()
    begun = found.get_dataframe()["begun"].min()
    assert len(found) == int(count)
    return {"seconds": time.time() - begun}


@functools.cache
def _compute(file: str) -> Any:
    """MAIN's `compute` in this process."""
    namespace: dict[str, Any] = {}
    for source in json.loads(Path(file).read_text())["cells"]:
        exec(source, namespace)
    return namespace["compute"]


def _trial(file: str, model: str, dataset: str, config: dict[str, Any]) -> tuple[float, float]:
    compute = _compute(file)
    begun = time.time()
    compute(model, dataset, **config)
    return begun, time.time()


def _load(file: str) -> None:
    _compute(file)
    time.sleep(0.1)


def ray_main(address: str, _folder: str, file: str) -> dict[str, Any]:
    """One Ray task per trial of a file of MAIN's cells and the trials, once every worker has loaded MAIN."""
    _connect(address)
    task = ray.remote(_trial)
    load = ray.remote(_load)
    ray.get([load.remote(file) for _ in range(_WARM)])
    trials = json.loads(Path(file).read_text())["trials"]
    times = ray.get([task.remote(file, *trial) for trial in trials])
    ended = time.time()
    begun = sorted(times)
    return {"seconds": ended - begun[0][0], "durations": [end - begin for begin, end in begun]}


def main(words: list[str]) -> None:
    """Run one kind and say what it measured."""
    kinds: dict[str, Callable[..., dict[str, Any]]] = {
        "ray": ray_nothing,
        "optuna": optuna_nothing,
        "tune": tune_nothing,
        "tune_used_again": functools.partial(tune_nothing, used_again=True),
        "ray_main": ray_main,
    }
    kind, *given = words
    sys.stdout.write("\n" + json.dumps(kinds[kind](*given)) + "\n")


if __name__ == "__main__":
    # Under its own name, so that Ray's workers import what they run instead of unpickling it.
    from tests.bench import rivals

    rivals.main(sys.argv[1:])
