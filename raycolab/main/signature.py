"""What MAIN's `compute` takes: read from MAIN's text before anything runs, and used to bind a trial's arguments.

`compute(model, dataset, **params)`, or any subset of names, or one `config` dict. Arguments are always bound by name.
Whether a space fits a signature is decided by the search spaces; calling `compute` is `main_runtime`.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from raycolab.errors import MainError
from raycolab.main.source import executed, magics
from raycolab.trials import Config

__all__ = ["ComputeSignature", "read_signature", "signature_of"]

_CONFIG = "config"


@dataclass(frozen=True, slots=True)
class ComputeSignature:
    """The arguments `compute` can be given by name."""

    names: tuple[str, ...]  # in order, as written
    required: frozenset[str]  # those without a default; `config` is not among them where `whole_config` holds
    accepts_any: bool = False  # has **kwargs, or cannot be read without running MAIN
    whole_config: bool = False  # a parameter `config` takes the configuration as one dict

    def arguments(self, model: str, dataset: str, config: Config) -> dict[str, object]:
        """The keyword arguments of one trial; `a/b` arrives nested, as `a={"b": ...}`.

        `model` and `dataset` are given where they are asked for, every parameter of the configuration always.
        The one dict of `whole_config` holds the parameters, and `model` and `dataset` unless they have names of
        their own; a space with a parameter called `config` binds that instead.
        """
        parameters = nested(config)
        pair: dict[str, object] = {"model": model, "dataset": dataset}
        if self.whole_config and _CONFIG not in parameters:
            whole = parameters | {key: value for key, value in pair.items() if key not in self.names}
            given = {key: value for key, value in (parameters | pair).items() if key in self.names}
            return given | {_CONFIG: whole}
        return parameters | {key: value for key, value in pair.items() if self.accepts_any or key in self.names}


def nested(config: Config) -> dict[str, object]:
    """`{"a/b": 1, "c": 2}` as `{"a": {"b": 1}, "c": 2}`."""
    result: dict[str, object] = {}
    for name, value in config.items():
        *outer, last = name.split("/")
        place = result
        for part in outer:
            inner = place.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ValueError(f"the configuration gives {part!r} a value and also {name!r} inside it")
            place = inner
        place[last] = value
    return result


def signature_of(compute: Callable[..., object]) -> ComputeSignature:
    """The signature of a loaded `compute`; one that Python cannot tell accepts anything."""
    try:
        parameters = inspect.signature(compute).parameters.values()
    except (TypeError, ValueError):  # callables written in C
        return _ANYTHING
    kinds = inspect.Parameter
    return _signature(
        by_position=[item.name for item in parameters if item.kind is kinds.POSITIONAL_ONLY],
        by_name={
            item.name: item.default is not kinds.empty
            for item in parameters
            if item.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
        },
        accepts_any=any(item.kind is kinds.VAR_KEYWORD for item in parameters),
    )


def read_signature(trees: Iterable[ast.Module]) -> ComputeSignature | None:
    """The signature of the last `compute` that running these cells in order defines; None where none does.

    A `compute` that is imported, assigned or comes with `import *` or `%run` accepts anything until it is loaded.
    Raises MainError for one that takes arguments by position only.
    """
    found: ast.arguments | None = None
    somehow = certain = False
    for node in (node for tree in trees for node in executed(tree, into_classes=False)):
        match node:
            case ast.FunctionDef(name="compute", args=arguments) | ast.AsyncFunctionDef(name="compute", args=arguments):
                found, certain = arguments, True
            case ast.Assign(targets=[ast.Name(id="compute")], value=ast.Lambda(args=arguments)):
                found, certain = arguments, True
            case ast.Assign(targets=targets) if "compute" in _names(targets):
                found, certain = None, True
            case ast.ClassDef(name="compute") | ast.alias(asname="compute") | ast.alias(name="compute", asname=None):
                found, certain = None, True
            case ast.AnnAssign(target=target) | ast.NamedExpr(target=target) if "compute" in _names([target]):
                found, certain = None, True
            case ast.alias(name="*"):
                somehow = True
            case ast.Module():
                somehow = somehow or any(magic.name in ("run", "load") for magic in magics(node))
    if found is not None:
        return _from_arguments(found)
    return _ANYTHING if certain or somehow else None


_ANYTHING = ComputeSignature((), frozenset(), accepts_any=True)


def _names(targets: Sequence[ast.expr]) -> Iterator[str]:
    return (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))


def _from_arguments(arguments: ast.arguments) -> ComputeSignature:
    plain = arguments.args
    defaulted = {item.arg for item in plain[len(plain) - min(len(plain), len(arguments.defaults)) :]}
    by_name = {item.arg: item.arg in defaulted for item in plain}
    by_name |= {
        item.arg: default is not None for item, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    }
    return _signature([item.arg for item in arguments.posonlyargs], by_name, arguments.kwarg is not None)


def _signature(by_position: list[str], by_name: Mapping[str, bool], accepts_any: bool) -> ComputeSignature:
    """From the parameters by position only, those by name (True where there is a default), and **kwargs."""
    if by_position:
        raise MainError(
            f"`compute` takes {', '.join(f'`{name}`' for name in by_position)} by position only, and raycolab gives "
            "every argument by name: remove the `/` from its signature."
        )
    required = {name for name, has_default in by_name.items() if not has_default}
    return ComputeSignature(tuple(by_name), frozenset(required - {_CONFIG}), accepts_any, _CONFIG in by_name)
