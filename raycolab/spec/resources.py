"""What one trial of a model takes of a node: CPUs, GPUs, memory, a process of its own.

    resources: {gpus: 0.5}                          # of every model
    resources: {cpus: 2, cnn: {gpus: 1}}            # cnn takes a GPU, every other model two CPUs

What a model asks for replaces what is asked for all models. Amounts are Ray's logical resources: they decide how many
trials share a node, and Ray shows each trial its own GPUs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from raycolab.spec.values import ArgumentError, as_number, within
from raycolab.text import did_you_mean, listed

__all__ = ["Resources", "read_resources", "resources_json"]

_KEYS = ("cpus", "gpus", "memory", "fresh_process")
# Ray's words among them.
_ALIASES: Mapping[str, str] = {"cpu": "cpus", "gpu": "gpus", "num_cpus": "cpus", "num_gpus": "gpus"}
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*((?:[kmg]i?)?)b?\s*", re.IGNORECASE)
# Of a CPU or GPU: Ray counts in ten thousandths.
_SMALLEST = 0.001
_MOST = 100_000


class Resources(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of one trial; what is None is as the node has it: a CPU, or a GPU with a CPU where there are GPUs."""

    cpus: int | float | None = None
    gpus: int | float | None = None
    # bytes
    memory: int | None = None
    # each trial in a new process, which gives back all it took, GPU memory too
    fresh_process: bool = False

    def __str__(self) -> str:
        """`2 CPUs, 0.5 GPU, 4 GB of memory`."""
        words = [
            f"{amount:g} {unit}{'s' if amount > 1 else ''}"
            for amount, unit in ((self.cpus, "CPU"), (self.gpus, "GPU"))
            if amount
        ]
        words += [f"{self.memory / 1e9:.3g} GB of memory"] if self.memory else []
        words += ["a process of its own"] if self.fresh_process else []
        return ", ".join(words)


def read_resources(key: str, value: object, sweep: Mapping[str, Any]) -> dict[str, Resources]:
    """What a trial of each model takes; ArgumentError for what is no resource, and for an unknown model."""
    models = tuple(sweep["models"])
    if not isinstance(value, Mapping):
        raise ArgumentError(f"{key} is a mapping such as {{cpus: 1}}, not {value!r}")
    of_model: dict[str, Resources] = {}
    for name, asked in value.items():
        if isinstance(asked, Mapping):
            with within(str(name)):
                if name not in models:
                    hint = did_you_mean(str(name), models)
                    raise ArgumentError(f"{key} names model {name!r}, which is not in this sweep{hint}")
                of_model[name] = _read(asked, ())
    general = _read({name: amount for name, amount in value.items() if name not in of_model}, models)
    return {model: of_model.get(model, general) for model in models}


def resources_json(resources: Mapping[str, Resources]) -> dict[str, object]:
    """As `read_resources` takes it, the same for all models where it is."""
    asked: dict[str, object] = {model: msgspec.to_builtins(each) for model, each in resources.items()}
    first: dict[str, object] = msgspec.to_builtins(next(iter(resources.values()), Resources()))
    return first if all(each == first for each in asked.values()) else asked


def _read(asked: Mapping[object, object], models: tuple[str, ...]) -> Resources:
    found: dict[str, Any] = {}
    for written, value in asked.items():
        key = _ALIASES.get(str(written), str(written))
        with within(str(written), prefix="resources: "):
            if key not in _KEYS:
                hint = did_you_mean(key, [*_KEYS, *models])
                raise ArgumentError(
                    f"no key {written!r}{hint}; there are {listed(_KEYS)}, or a model's name with these"
                )
            if key in found:
                raise ArgumentError(f"{key} is there twice; remove {written!r}")
            found[key] = _read_value(key, value)
    resources = Resources(**found)
    if resources.cpus == 0 and not resources.gpus:
        raise ArgumentError("resources: a trial without a GPU needs some CPU; give cpus: 1 or less", ("cpus",))
    return resources


def _read_value(key: str, value: object) -> int | float:
    if key == "fresh_process":
        if not isinstance(value, bool):
            raise ArgumentError(f"{key} is true or false, not {value!r}")
        return value
    if key == "memory":
        return _read_memory(value)
    with within(prefix=f"{key}: "):
        amount = float(as_number(value))
    if amount != 0 and not _SMALLEST <= amount <= _MOST:
        raise ArgumentError(f"{key} is 0 or from {_SMALLEST} up, not {value!r}")
    if key == "gpus" and amount > 1 and not amount.is_integer():
        raise ArgumentError(f"gpus is a part of one GPU or a whole number of them, not {value}")
    return int(amount) if amount.is_integer() else amount


def _read_memory(value: object) -> int:
    size = _SIZE.fullmatch(value) if isinstance(value, str) else None
    count = value if size is None else float(size[1]) * _UNITS[size[2].lower()]
    if isinstance(count, bool) or not isinstance(count, int | float) or not 1 <= count < 2**60:
        raise ArgumentError(f"memory is a number of bytes or a size such as 4GB, not {value!r}")
    return int(count)
