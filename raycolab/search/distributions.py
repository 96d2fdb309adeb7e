"""A space as Optuna searches it: which distribution stands for a domain, and the way between their values.

Optuna knows uniform and log-uniform numbers, whole numbers and categories. Numbers in steps are searched by counting
the steps, alternatives by their index. Every other domain (normal, beta, log-uniform in steps, numbers too large or too
close for Optuna's arithmetic) is searched by its quantile, so that the domain's own likelihoods stay the search's
starting point. The weights of a choice Optuna does not know; alternatives of weight 0 are left out.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from statistics import NormalDist

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
    Integer,
    Normal,
    as_number,
    tidy,
)
from raycolab.trials import Config, Scalar

__all__ = ["SearchSpace", "optuna_distribution"]

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
            return CategoricalDistribution((value,))
        case Choice():
            return CategoricalDistribution(domain.possible)
        case Integer(low, high, log, step):
            return IntDistribution(low, low + (high - low) // step * step, log, 1 if log else step)
        case Float(low, high, log, step):
            return FloatDistribution(low, high, log) if log or step is None else _stepped(domain, step)
        case _:
            low, high = (float(as_number(domain.at(unit))) for unit in (0.0, LARGEST_UNIT))
            return FloatDistribution(low, high, log=isinstance(domain, Normal) and domain.log and low > 0)


class SearchSpace:
    """The parameters of one model in Optuna's terms. Constants are no parameters there: the configuration has them."""

    def __init__(self, space: Mapping[str, Domain]) -> None:
        self._space = dict(space)
        # names of the parameters that are searched by quantile
        self._quantiles = {name for name, domain in space.items() if _by_quantile(domain)}
        # what Optuna is asked for, by name
        self.distributions: dict[str, BaseDistribution] = {}
        # the categories, which are told apart as JSON does: 1, 1.0 and true are three
        self._choices: dict[str, list[Scalar]] = {}
        self._indices: dict[str, dict[str, int]] = {}
        for name, domain in space.items():
            if isinstance(domain, Choice):
                by_text = {json.dumps(value): value for value in domain.possible}
                self._choices[name] = list(by_text.values())
                self._indices[name] = {text: index for index, text in enumerate(by_text)}
                self.distributions[name] = CategoricalDistribution(range(len(by_text)))
            elif not isinstance(domain, Constant):
                self.distributions[name] = _searched(domain)

    def params(self, config: Config) -> dict[str, CategoricalChoiceType]:
        """Optuna's parameters for a configuration, which may be a part of one."""
        return {name: self._param(name, config[name]) for name in self.distributions if name in config}

    def config(self, params: Mapping[str, object]) -> dict[str, Scalar]:
        """The configuration that Optuna's parameters mean, with every name of the space in its order."""
        return {name: self._value(name, params.get(name)) for name in self._space}

    def _param(self, name: str, value: Scalar) -> CategoricalChoiceType:
        if name in self._indices:
            return self._indices[name][json.dumps(value)]
        domain = self._space[name]
        if name in self._quantiles:
            return _quantile(domain, value)
        if isinstance(domain, Float) and domain.step is not None:
            return round((as_number(value) - domain.low) / domain.step)
        return value

    def _value(self, name: str, param: object) -> Scalar:
        domain = self._space[name]
        if isinstance(domain, Constant):
            return domain.value
        number = as_number(param)
        if name in self._choices:
            return self._choices[name][int(number)]
        if name in self._quantiles:
            return domain.at(min(number, LARGEST_UNIT))
        return tidy(domain.low, domain.step, int(number)) if isinstance(domain, Float) and domain.step else number


def _by_quantile(domain: Domain) -> bool:
    match domain:
        case Float(low, high, log, None):
            width = math.log(high) - math.log(low) if log else high - low
            narrow = width < (_SMALLEST_LOG_WIDTH if log else _SMALLEST_WIDTH)
            return narrow or max(abs(low), abs(high)) > _LARGEST_BOUND
        case Float(_, _, log, step) if step is not None:
            return log or _steps(domain, step) > _LARGEST_WHOLE
        case Integer(low, high, log, step):
            return (log and step > 1) or max(abs(low), abs(high)) > _LARGEST_WHOLE
        case _:
            return not isinstance(domain, Constant | Choice)


def _searched(domain: Domain) -> BaseDistribution:
    if _by_quantile(domain):
        return FloatDistribution(0, 1)
    if isinstance(domain, Float) and domain.step is not None:
        return IntDistribution(0, _steps(domain, domain.step))
    return optuna_distribution(domain)


def _steps(domain: Float, step: float) -> int:
    """How many steps lead from the lowest value to the highest."""
    return round((as_number(domain.at(LARGEST_UNIT)) - domain.low) / step)


def _stepped(domain: Float, step: float) -> BaseDistribution:
    """In steps, unless binary dust makes Optuna take the highest value for one beyond them."""
    highest = float(as_number(domain.at(LARGEST_UNIT)))
    if max(abs(domain.low), abs(highest)) / step <= _LARGEST_IN_STEPS:
        with warnings.catch_warnings():
            # Optuna warns of the dust.
            warnings.simplefilter("ignore")
            found = FloatDistribution(domain.low, highest, step=step)
        if found.high == highest:
            return found
    return FloatDistribution(domain.low, highest)


def _quantile(domain: Domain, value: Scalar) -> float:
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
            unit = _share(low, number, high, log)
        case Integer(low, high, log, step):
            index = (int(number) - low) // step
            if log:
                first = low // step
                unit = _share(first, first + index + 0.5, first + domain.count, log)
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
