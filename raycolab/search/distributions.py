"""A space as Optuna searches it: which distribution stands for a domain, and the way between their values.

Optuna knows uniform and log-uniform numbers, whole numbers and categories. Numbers in steps are searched by counting
the steps, alternatives by their index. Every other domain (normal, beta, log-uniform in steps, numbers too large or too
close for Optuna's arithmetic) is searched by its quantile, so that the domain's own likelihoods stay the search's
starting point. The weights of a choice Optuna does not know; alternatives of weight 0 are left out.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from raycolab.spec.beta import beta_cdf
from raycolab.spec.domains import (
    LARGEST_UNIT,
    Beta,
    Choice,
    Constant,
    Domain,
    Float,
    GridSearch,
    Integer,
    Normal,
    ends,
    value_key,
)
from raycolab.spec.values import as_number
from raycolab.text import value_text
from raycolab.trials import Config, Value

__all__ = ["SearchSpace", "optuna_distribution", "optuna_value", "quiet_optuna"]

# A number of more steps has binary dust that Optuna takes for a place between two.
_LARGEST_IN_STEPS = 1_000_000
# Beyond it, a float does not tell neighbours apart, and Optuna counts in floats.
_LARGEST_WHOLE = 2**53
# Bounds and widths between which Optuna's arithmetic, squares and differences of logarithms, stays clear of overflow.
_LARGEST_BOUND, _SMALLEST_WIDTH, _SMALLEST_LOG_WIDTH = 1e150, 1e-150, 1e-9


def optuna_distribution(domain: Domain) -> BaseDistribution:
    """Optuna's distribution that holds every value of the domain as it is, for studies that people look at.

    What Optuna has no law for becomes the plain range of the values.
    """
    match domain:
        case Constant(value):
            return CategoricalDistribution((optuna_value(value),))
        case Choice():
            return CategoricalDistribution([optuna_value(value) for value in domain.possible])
        case GridSearch(values):
            return CategoricalDistribution([optuna_value(value) for value in values])
        case Integer(low, high, log, step):
            return IntDistribution(low, low + (high - low) // step * step, log, 1 if log else step)
        case Float(low, high, log, step):
            if step is None:
                return FloatDistribution(low, high, log)
            # A value of W&B's may be 0, which has no logarithm, or lie beyond a bound.
            first, last = (float(end) for end in ends(domain))
            return FloatDistribution(first, last, log=first > 0) if log else _stepped(domain, step)
        case _:
            low, high = (float(end) for end in ends(domain))
            return FloatDistribution(low, high, log=isinstance(domain, Normal) and domain.log and low > 0)


def optuna_value(value: Value) -> CategoricalChoiceType:
    """The value as these distributions have it: a list or dict, which Optuna does not compare, as its JSON."""
    return value_text(value) if isinstance(value, list | dict) else value


class SearchSpace:
    """The parameters of one model in Optuna's terms. Constants are no parameters there: the configuration has them."""

    def __init__(self, space: Mapping[str, Domain]) -> None:
        self._space = dict(space)
        self._codes = {name: _code(domain) for name, domain in space.items() if not isinstance(domain, Constant)}
        # what Optuna is asked for, by name
        self.distributions = {name: code.distribution for name, code in self._codes.items()}

    def params(self, config: Config) -> dict[str, CategoricalChoiceType]:
        """Optuna's parameters for a configuration, which may be a part of one."""
        return {name: code.param(config[name]) for name, code in self._codes.items() if name in config}

    def config(self, params: Mapping[str, object]) -> dict[str, Value]:
        """The configuration that Optuna's parameters mean, with every name of the space in its order."""
        return {
            name: domain.value if isinstance(domain, Constant) else self._codes[name].value(as_number(params[name]))
            for name, domain in self._space.items()
        }


@dataclass(frozen=True, slots=True)
class _Code:
    """How Optuna searches a domain, and the way from a value to Optuna's parameter and back."""

    distribution: BaseDistribution
    param: Callable[[Value], CategoricalChoiceType]
    value: Callable[[float], Value]


def _code(domain: Domain) -> _Code:
    if isinstance(domain, Choice):
        # Told apart as JSON does: 1, 1.0 and true are three.
        by_text = {value_key(value): value for value in domain.possible}
        indices, values = {text: index for index, text in enumerate(by_text)}, list(by_text.values())
        return _Code(
            CategoricalDistribution(range(len(values))),
            lambda value: indices[value_key(value)],
            lambda index: values[int(index)],
        )
    if _by_quantile(domain):
        return _Code(
            FloatDistribution(0, 1), partial(_quantile, domain), lambda unit: domain.at(min(unit, LARGEST_UNIT))
        )
    if isinstance(domain, Float) and domain.step is not None:
        low, step = domain.nth(0), domain.step
        return _Code(
            IntDistribution(0, domain.count - 1),
            lambda value: round((as_number(value) - low) / step),
            lambda steps: domain.nth(int(steps)),
        )
    return _Code(optuna_distribution(domain), as_number, lambda number: number)


def _by_quantile(domain: Domain) -> bool:
    match domain:
        case Float(low, high, log, None):
            width = math.log(high) - math.log(low) if log else high - low
            narrow = width < (_SMALLEST_LOG_WIDTH if log else _SMALLEST_WIDTH)
            return narrow or max(abs(low), abs(high)) > _LARGEST_BOUND
        case Float(_, _, log, step) if step is not None:
            return log or domain.count > _LARGEST_WHOLE
        case Integer(low, high, log, step):
            return (log and step > 1) or max(abs(low), abs(high)) > _LARGEST_WHOLE
        case _:
            return isinstance(domain, Normal | Beta)


def _stepped(domain: Float, step: float) -> BaseDistribution:
    """In steps, unless binary dust makes Optuna take the highest value for one beyond them."""
    lowest, highest = (float(end) for end in ends(domain))
    if max(abs(lowest), abs(highest)) / step <= _LARGEST_IN_STEPS:
        with warnings.catch_warnings():
            # Optuna warns of the dust.
            warnings.simplefilter("ignore")
            found = FloatDistribution(lowest, highest, step=step)
        if found.high == highest:
            return found
    return FloatDistribution(lowest, highest)


def _quantile(domain: Domain, value: Value) -> float:
    """A quantile at which the domain has the value: `at` undone."""
    number = as_number(value)
    match domain:
        case Normal(mean, sd, log, step):
            if log and number <= 0 and step is not None:
                # A quarter of a step is rounded to 0.
                number = step / 4 or step
            unit = NormalDist(mean, sd).cdf(math.log(number) if log else number)
        case Beta(a, b, _):
            unit = beta_cdf(a, b, number)
        case Float(low, high, log, _):
            unit = _share(low, min(max(number, low), high), high, log)
        case Integer(low, high, log, step):
            index = (int(number) - low) // step
            if log:
                first, last = domain.log_bounds
                unit = _share(first, first + index + 0.5, last, log)
            else:
                # Of whole numbers, which may be larger than a float.
                unit = (2 * index + 1) / (2 * domain.count)
        case _:
            raise TypeError(f"{domain} is not searched by its quantile")
    return min(max(unit, 0.0), LARGEST_UNIT)


def _share(low: float, number: float, high: float, log: bool) -> float:
    """How far the number is on the way from low to high; in the middle where floats do not tell the two apart."""
    if log:
        low, number, high = math.log(low), math.log(number), math.log(high)
    return (number - low) / (high - low) if high > low else 0.5


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna's log lines and warnings are for those who call Optuna; for the time of a call they are off."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)
