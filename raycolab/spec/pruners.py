"""Early stopping as declared: one of Optuna's pruners by name, with its options, or W&B's hyperband.

`EarlyStop` is a plain value that the store keeps. Optuna itself is asked, when a sweep is declared with one, which
pruners and options there are; nothing else here needs it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from raycolab.errors import SpaceError
from raycolab.spec.keys import ArgumentError
from raycolab.spec.values import as_scalar, as_whole
from raycolab.text import listed
from raycolab.trials import Scalar

__all__ = ["EarlyStop", "read_early_stop"]

_KEY = "early_terminate"
_FORM = "a pruner's name such as median, or a mapping such as {type: median, n_warmup_steps: 5}"
_WANDB_KEYS = ("min_iter", "max_iter", "s", "eta", "strict")
_WANDB_ETA = 3  # the default of W&B's schema


@dataclass(frozen=True, slots=True)
class EarlyStop:
    """Which of Optuna's pruners ends trials early."""

    kind: str  # its name in lower case, words joined: median, successive_halving
    options: Mapping[str, Scalar] = field(default_factory=dict)  # of the pruner, as Optuna calls them

    def to_json(self) -> dict[str, object]:
        """The value as a JSON object."""
        return {"kind": self.kind, "options": dict(self.options)}

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> EarlyStop:
        """The value that `to_json` described."""
        options = data["options"]
        assert isinstance(options, dict)
        return cls(str(data["kind"]), options)

    def __str__(self) -> str:
        options = listed(f"{name}={json.dumps(value)}" for name, value in sorted(self.options.items()))
        return f"{self.kind}({options})" if options else self.kind


def read_early_stop(value: object) -> EarlyStop | None:
    """The pruner that `early_terminate` names; ArgumentError for one, or an option, that Optuna does not have."""
    if value is None:
        return None
    early_stop = value if isinstance(value, EarlyStop) else _written(value)
    from raycolab.search.pruners import PrunerError, checked  # slow to import, and few sweeps need it

    try:
        return checked(early_stop)
    except PrunerError as error:
        raise ArgumentError((_KEY, error.option or "type"), f"{_KEY}: {error}") from error


def _written(value: object) -> EarlyStop:
    if isinstance(value, str):
        return EarlyStop(value)
    if not isinstance(value, Mapping):
        raise ArgumentError((_KEY,), f"{_KEY} is {_FORM}, not {value!r}")
    kind = value.get("type")
    if not isinstance(kind, str):
        raise ArgumentError((_KEY,), f"{_KEY} needs the key type; write {_FORM}")
    options: dict[str, Scalar] = {}
    for key, given in value.items():
        try:
            options[str(key)] = as_scalar(given)
        except SpaceError as error:
            raise ArgumentError((_KEY, str(key)), f"{_KEY}, {key}: {error}") from error
    del options["type"]
    if kind == "hyperband" and not set(_WANDB_KEYS).isdisjoint(options):
        return _of_wandb(options)
    return EarlyStop(kind, options)


def _of_wandb(options: Mapping[str, Scalar]) -> EarlyStop:
    """W&B's hyperband: at its first step, and at eta times that one and so on, the best of every eta trials go on.

    That is one bracket of Hyperband, which Optuna calls successive halving. The first step is `min_iter`, or what is
    left of `max_iter` divided by eta `s` times (wandb/sweeps, src/sweeps/hyperband_stopping.py, where `strict` has no
    effect either).
    """
    for key in options:
        if key not in _WANDB_KEYS:
            raise ArgumentError(
                (_KEY, key),
                f"{_KEY}: {key} does not stand beside the keys of W&B's hyperband, {listed(_WANDB_KEYS)}; remove it, "
                "or use the options of Optuna's hyperband alone",
            )
    strict = options.get("strict", True)
    if not isinstance(strict, bool):
        raise ArgumentError((_KEY, "strict"), f"{_KEY}: strict is true or false, not {strict!r}")
    eta = _whole(options, "eta", 2) if "eta" in options else _WANDB_ETA
    if "max_iter" in options and "s" in options:
        first, rounds = _whole(options, "max_iter", 1), _whole(options, "s", 1)
        if first < eta:
            raise ArgumentError(
                (_KEY, "max_iter"),
                f"{_KEY}: max_iter {first} is less than eta {eta}, so no trial would ever be stopped; raise it",
            )
        while rounds > 0 and first >= eta:
            first, rounds = first // eta, rounds - 1
    elif "min_iter" in options:
        first = _whole(options, "min_iter", 1)
    else:
        raise ArgumentError((_KEY,), f"{_KEY}: W&B's hyperband needs min_iter, or max_iter and s; add it")
    return EarlyStop("successive_halving", {"min_resource": first, "reduction_factor": eta})


def _whole(options: Mapping[str, Scalar], key: str, least: int) -> int:
    try:
        number = as_whole(options[key])
    except SpaceError as error:
        raise ArgumentError((_KEY, key), f"{_KEY}: {key} is a whole number, not {options[key]!r}") from error
    if number < least:
        raise ArgumentError((_KEY, key), f"{_KEY}: {key} is at least {least}, not {number}")
    return number
