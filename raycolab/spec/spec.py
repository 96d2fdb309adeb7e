"""The declaration of a sweep, checked and frozen: what is searched, over which pairs, how, and for which metric.

`SweepSpec` is the table of keys: a new key is one field with its `Key`, and the place that uses it. A spec is a value,
made from the keys of a call or of a file (`SweepSpec.declared`, the same for both) or from the JSON that the store
keeps; its fingerprint tells whether two declarations mean the same. `check_fits` holds it against the arguments of
`compute`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Generic, NamedTuple, Self, TypeVar

import msgspec

from raycolab.errors import RaycolabError, SpaceError, UsageError
from raycolab.spec import readers
from raycolab.spec.change import CONTRADICTS, DATASETS, EXTENDS, HARMLESS, METRIC, MODELS, POINTS, RESOURCES
from raycolab.spec.domains import Domain, domain_json
from raycolab.spec.keys import Key, OnChange, fields_of, settle_keys
from raycolab.spec.pruners import EarlyStop, read_early_stop
from raycolab.spec.readers import DEFAULT_NAME, GIVEN_BY_US, grid_search_size
from raycolab.spec.resources import Resources, read_resources, resources_json
from raycolab.spec.spaces import Method
from raycolab.spec.values import (
    MOST_TRIALS,
    ArgumentError,
    Refusals,
    read_count,
    read_flag,
    read_names,
    read_seconds,
    read_whole,
)
from raycolab.spec.wandb import SHORT_OF_METRIC
from raycolab.text import did_you_mean, listed
from raycolab.trials import Config, Metric

if TYPE_CHECKING:
    from raycolab.main.compute import ComputeSignature

__all__ = ["Declared", "Method", "StoredSpecError", "SweepSpec", "check_fits"]


class StoredSpecError(RaycolabError):
    """The text that the database keeps of a sweep is damaged, or a newer raycolab wrote it."""


S = TypeVar("S", bound="SweepSpec")


class Declared(NamedTuple, Generic[S]):
    """What the keys of a declaration say."""

    spec: S
    # as written; None where nothing is said
    main: object | None
    # a line for each thing that is worth telling and changes nothing
    notes: tuple[str, ...]


class _Read(dict[str, Any]):
    """What was read before, for readers; what was refused is not there."""

    def __missing__(self, key: str) -> Any:
        raise _UnreadError(key)


class _UnreadError(Exception):
    """A reader needs what was refused: what it would say about the rest is not known."""


_ANOTHER_SWEEP = OnChange("another sweep")
# What a change of the code means is decided where the code is.
_CODE = OnChange("asked, once rows are finished: `main_changed`")
# Compared as a part of the models that have it.
_SPACE = OnChange("more values at the end of a list")
_MAIN = Key(
    "the notebook or Python file that defines `compute`; in a file, a path relative to it",
    _CODE,
    readers.read_main,
    name="main",
    aliases=("program",),
    wandb="program",
    only_in_file=True,
)
_PARAMETERS = Key(
    "the space that all models share: names, each with a value, a list of values or a distribution",
    _SPACE,
    readers.read_parameters,
    name="parameters",
    aliases=("space",),
    wandb="parameters",
)
_MODE = Key(
    "`max` or `min`, for a metric that is given by its name",
    CONTRADICTS,
    readers.read_mode,
    name="mode",
    unless_given="max",
)


class SweepSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sweep as declared: the table of its keys, in the order in which they are read.

    A field without a default is in every text that a database keeps. One with a default came later: it is not in the
    fingerprint of a sweep that does not use it.
    """

    name: Annotated[
        str,
        Key(
            "the name by which the sweep is found again",
            _ANOTHER_SWEEP,
            readers.read_name,
            unless_given="the name of the file",
            wandb="name",
            beside=(_MAIN,),
            only_in_file=True,
        ),
    ]
    # What they match is frozen with MAIN, and compared with it.
    files: Annotated[
        tuple[str, ...],
        Key(
            "patterns of files and folders in MAIN's folder that travel with it",
            _CODE,
            readers.read_files,
            default=(),
            unless_given="none",
        ),
    ] = ()
    method: Annotated[
        Method, Key("`random`, `grid` or `bayes`", CONTRADICTS, readers.read_method, default="random", wandb="method")
    ]
    # Each model's space, flat names, in the order declared.
    models: Annotated[
        Mapping[str, Mapping[str, Domain]],
        Key(
            "a list of names, or names each with a space of its own",
            MODELS,
            readers.read_models,
            default=[DEFAULT_NAME],
            unless_given="one, `default`",
            beside=(_PARAMETERS,),
        ),
    ]
    datasets: Annotated[
        tuple[str, ...],
        Key("a list of names", DATASETS, read_names, default=[DEFAULT_NAME], unless_given="one, `default`"),
    ]
    run_cap: Annotated[int | None, Key("the most trials of the whole sweep", EXTENDS, read_count, wandb="run_cap")]
    # None: all of a grid.
    jobs_per_pair: Annotated[
        int | None,
        Key(
            "trials of each model with each data set, or of each combination of its `grid_search`es",
            EXTENDS,
            readers.read_jobs,
            aliases=("num_samples",),
            unless_given="10, all of a grid, 1 of a `grid_search`, or enough for `run_cap`",
        ),
    ]
    metric: Annotated[
        Metric,
        Key(
            "the number to optimise: its name, or `{name, goal}`, goal being `maximize` or `minimize`",
            METRIC,
            readers.read_metric,
            default="metric",
            unless_given="`metric`, a number that `compute` returns without a name",
            wandb="metric",
            beside=(_MODE,),
        ),
    ]
    seed: Annotated[
        int,
        Key(
            "a whole number; the same seed draws the same configurations, and each trial's own seed comes of it",
            CONTRADICTS,
            read_whole,
            default=0,
        ),
    ]
    timeout_s: Annotated[
        float | None, Key("seconds after which a trial is FAILED and its process killed", HARMLESS, read_seconds)
    ]
    resources: Annotated[
        Mapping[str, Resources],
        Key(
            "what a trial takes of its node, for all models or for one: `{cpus, gpus, memory, fresh_process}`",
            RESOURCES,
            read_resources,
            default={},
            unless_given="a GPU where there are GPUs, else a CPU",
        ),
    ]
    # As given: names that are missing are filled in, and each model tries those that fit it.
    points_to_evaluate: Annotated[
        tuple[Config, ...],
        Key(
            "a list of configurations, whole or in part, that each pair tries first",
            POINTS,
            readers.read_points,
            default=(),
            unless_given="none",
        ),
    ] = ()
    early_stop: Annotated[
        EarlyStop | None,
        Key(
            "the pruner that ends trials early: the name of one of Optuna's, one with its options, or W&B's hyperband",
            CONTRADICTS,
            read_early_stop,
            name="early_terminate",
            wandb="early_terminate",
        ),
    ] = None
    max_failures: Annotated[int | None, Key("FAILED trials after which the sweep is held", HARMLESS, read_count)] = None
    max_concurrent_trials: Annotated[
        int | None,
        Key("the most trials that run at the same time", HARMLESS, read_count, unless_given="one for each slot"),
    ] = None
    time_budget_s: Annotated[
        float | None, Key("seconds from the first trial on after which the sweep is held", HARMLESS, read_seconds)
    ] = None
    notes: Annotated[
        str | None, Key("text for whoever reads the report, also several lines", HARMLESS, readers.read_notes)
    ] = None
    tags: Annotated[
        tuple[str, ...],
        Key(
            "a list of words by which you find the sweep again",
            HARMLESS,
            readers.read_tags,
            default=(),
            unless_given="none",
        ),
    ] = ()

    reseed: Annotated[
        bool,
        Key(
            "`false` leaves `random`, numpy and torch alone, which otherwise start each trial from the trial's seed",
            CONTRADICTS,
            read_flag,
            default=True,
            unless_given="true",
        ),
    ] = True

    @classmethod
    def from_arguments(cls, name: str, **arguments: object) -> Self:
        """The spec that a declaration's arguments mean; ArgumentError, a UsageError, for all that is wrong with them.

        Arguments are the keys of the table; None is the same as not given.
        """
        return cls.declared({**arguments, "name": name}).spec

    @classmethod
    def declared(cls, written: Mapping[str, object]) -> Declared[Self]:
        """What the keys of a call or a file say, the name among them; ArgumentError for all that is wrong with them."""
        refusals = Refusals()
        given, unused = settle_keys(cls, written, refusals)
        metric = given.get("metric")
        if isinstance(metric, Mapping):
            if ("program" in written or unused) and not {"goal", "mode"} & metric.keys():
                # W&B's default, in what was written for it only.
                given["metric"] = {**metric, "goal": "minimize"}
            unused += [f"metric.{key}" for key in SHORT_OF_METRIC if key in metric]
        read = _Read()
        for field, key in fields_of(cls).items():
            for each in (*key.beside, key):
                with contextlib.suppress(_UnreadError), refusals.at(each.name):
                    value = each.read(each.name, given.get(each.name, each.default), read)
                    read[field if each is key else each.name] = value
        with contextlib.suppress(_UnreadError):
            with refusals.at():
                readers.check_names(read["models"], read["parameters"], given.keys())
            with refusals.at():
                if read["method"] is Method.GRID:
                    readers.check_grid(read["models"], read["parameters"])
        refusals.raise_all()
        spec = cls(**{field: read[field] for field in fields_of(cls)})
        spec._check_kept("jobs_per_pair" if "jobs_per_pair" in given else "method")
        notes = (f"not used, for they are W&B's: {listed(unused)}",) if unused else ()
        return Declared(spec, read["main"], notes)

    def _check_kept(self, counted_by: str) -> None:
        """ArgumentError where there are too many trials, or a text that nothing can keep."""
        if self.size > MOST_TRIALS:
            raise ArgumentError(
                f"this sweep has {self.size:,} trials and at most {MOST_TRIALS:,} are possible; "
                "lower jobs_per_pair, or set run_cap",
                (counted_by,),
            )
        text = self.to_json()
        try:
            text.encode()
        except UnicodeEncodeError as error:
            near = text[max(error.start - 20, 0) : error.end]
            raise ArgumentError(
                f"a text in the sweep has half a character, at the end of {near!r}: remove it"
            ) from error

    @property
    def size(self) -> int:
        """How many trials there are in all."""
        size = sum(map(self.jobs_of, self.models)) * len(self.datasets)
        return size if self.run_cap is None else min(size, self.run_cap)

    def jobs_of(self, model: str) -> int:
        """How many trials each of its pairs has."""
        space = self.models[model]
        if self.method is not Method.GRID:
            return (self.jobs_per_pair or 0) * grid_search_size(space)
        whole = math.prod(len(domain.grid()) for domain in space.values())
        return whole if self.jobs_per_pair is None else min(whole, self.jobs_per_pair)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Every (model, dataset), models first, in the order declared."""
        return tuple((model, dataset) for model in self.models for dataset in self.datasets)

    def to_json(self) -> str:
        """The spec as canonical JSON; `from_json` is its inverse."""
        return _canonical(self._fields())

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The spec that `to_json` wrote; StoredSpecError for anything else."""
        try:
            stored = json.loads(text)
            form = msgspec.convert(stored, _Stored)
            models = {model: dict(space) for model, space in form.models}
            resources = read_resources("resources", form.resources, {"models": models})
            return msgspec.convert({**stored, "models": models, "resources": resources}, cls)
        except (ValueError, RecursionError, UsageError) as error:
            raise StoredSpecError(
                f"the database holds a sweep that cannot be read ({error}); it is damaged, or a newer raycolab wrote it"
            ) from error

    def fingerprint(self) -> str:
        """SHA-256, hex, of what the spec means; its name and the order of what it lists do not count."""
        fields = self._fields()
        del fields["name"]
        fields["models"] = {model: dict(space) for model, space in fields["models"]}
        fields["datasets"] = sorted(self.datasets)
        for field in msgspec.structs.fields(self):
            if not field.required and getattr(self, field.name) == field.default:
                fields.pop(field.name, None)
        return hashlib.sha256(_canonical(fields).encode()).hexdigest()

    def _fields(self) -> dict[str, Any]:
        fields = {field: msgspec.to_builtins(getattr(self, field)) for field in self.__struct_fields__}
        # Databases of before do not have these.
        for name, unused in (("files", ()), ("reseed", True), ("notes", None), ("tags", ())):
            if getattr(self, name) == unused:
                del fields[name]
        # Lists of pairs, so that sorting the keys of the JSON leaves the declared order alone.
        fields["models"] = [
            (model, [(name, domain_json(domain)) for name, domain in space.items()])
            for model, space in self.models.items()
        ]
        fields["resources"] = resources_json(self.resources)
        return fields


class _Stored(msgspec.Struct):
    """The parts of the stored JSON that have another form there."""

    models: list[tuple[str, list[tuple[str, Domain]]]]
    resources: dict[str, Any]


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def check_fits(spec: SweepSpec, signature: ComputeSignature, *, main: str = "MAIN") -> None:
    """SpaceError, one sentence a line, when `compute` does not take what a space gives or needs what none gives.

    A nested name counts by its first part; `model` and `dataset` are given to whoever takes them; one `config` takes
    any names. What a decorator takes and supplies only running it can tell. `main` is how the notebook is called in
    the sentences.
    """
    problems: list[str] = []
    for model, space in spec.models.items():
        giver = "the sweep" if tuple(spec.models) == (DEFAULT_NAME,) else f"the space of model {model!r}"
        given = {name.split("/")[0] for name in space}
        if signature.is_decorated:
            continue
        if not signature.accepts_any and ("config" in given or not signature.whole_config):
            problems += [
                f"compute of {main} has no parameter {name!r} that {giver} gives"
                f"{did_you_mean(name, set(signature.names) - given)}; rename it in the sweep or add it to compute."
                for name in sorted(given - set(signature.names))
            ]
        problems += [
            f"compute of {main} needs {name!r}, which {giver} does not give; "
            "add it to the sweep or give it a default in compute."
            for name in sorted(signature.required - given - set(GIVEN_BY_US))
        ]
    if problems:
        raise SpaceError("\n".join(problems))
