"""The API of the head: every request with its answer, and what is told without being asked, each declared once.

Whoever asks (a kernel, the command line, a notebook that pulls) is a client of the head's supervisor. That answers its
own requests, and passes those of the engine on and the answers back, as the bytes that they are. `rpc` carries them;
nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from operator import attrgetter
from types import GenericAlias
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args, get_type_hints

import msgspec

from raycolab import errors
from raycolab.engine.messages import Assignment
from raycolab.errors import ClusterError, RaycolabError, UsageError
from raycolab.summary import SetupStatus
from raycolab.trials import AttemptRow, Outcome, ReportRow, SweepRow, SweepState, TrialRow, TrialState

__all__ = [
    "API_PORT",
    "PAGE_BYTES",
    "PIECE_BYTES",
    "Cancel",
    "Declare",
    "Delete",
    "EndEngine",
    "EngineIsUp",
    "EngineRequest",
    "Facts",
    "Find",
    "FoundSweep",
    "HeadFacts",
    "HeadRequest",
    "Heartbeat",
    "HeartbeatAnswer",
    "JoinerFacts",
    "JoinerState",
    "ListSweeps",
    "MainChanged",
    "NodeLost",
    "Order",
    "Page",
    "Pause",
    "Problem",
    "Progress",
    "Pull",
    "Pulled",
    "Push",
    "PutDown",
    "PutFiles",
    "ReadFiles",
    "ReadOutput",
    "ReadRows",
    "Remove",
    "Request",
    "Resume",
    "Retry",
    "Shutdown",
    "Start",
    "Status",
    "Stop",
    "Table",
    "decode",
    "decode_known",
    "encode",
    "keys_of",
    "page_of",
    "rows_of",
]

API_PORT = 1
"""The service of the hub at which every node of the mesh reaches the head's control socket."""

PAGE_BYTES = 4 * 1024 * 1024
"""A page of rows ends with the one that goes beyond."""

PIECE_BYTES = 8 * 1024 * 1024
"""Of an archive that is longer, this much travels in one message."""

A = TypeVar("A")


class Request(msgspec.Struct, Generic[A], frozen=True, tag=True):
    """A question, or an order; its parameter is what answers it."""

    timeout_s: ClassVar[float] = 60.0
    """How long a client waits for the answer."""

    @classmethod
    def answer_type(cls) -> Any:
        """What answers it."""
        return get_args(cls.__orig_bases__[0])[0]  # type: ignore[attr-defined]  # typing's, for generic classes


# What the head's supervisor answers.


class HeadFacts(msgspec.Struct, frozen=True):
    """What does not change while the head runs, but for the join address of a provider that was lost."""

    join_address: str
    ray_address: str  # of the GCS, 127.77.0.1:PORT
    ray_token: str


class Facts(Request[HeadFacts], frozen=True):
    """What does the head say of itself?"""


class Status(Request[dict[str, Any]], frozen=True):
    """The object of `raycolab status --json`."""


class Remove(Request[None], frozen=True):
    """Send this joiner away; what it was computing goes back in the queue."""

    node: str


class Shutdown(Request[None], frozen=True):
    """End the cluster."""


class EngineIsUp(Request[None], frozen=True):
    """The engine is at the other end: from now on the head asks here, and is told `Progress`."""


HeadRequest = Facts | Status | Remove | Shutdown | EngineIsUp


# What a joiner's supervisor answers, on its own machine.


class JoinerFacts(msgspec.Struct, frozen=True):
    """How it stands."""

    state: str
    name: str | None = None  # None until it has joined
    trial: str | None = None  # that runs on it


class JoinerState(Request[JoinerFacts], frozen=True):
    """How does the joiner stand?"""


# What the engine answers: sweeps, which it alone writes to the database.


class EndEngine(Request[None], frozen=True):
    """The head ends: what runs waits again, uncharged, and the database is closed once all is in it."""


class FoundSweep(msgspec.Struct, frozen=True):
    """A sweep as the database has it."""

    row: SweepRow
    counts: dict[TrialState, int]  # trials in each state
    database: str  # a file's absolute path on the head's machine, or a URL without its password
    beside: str | None = None  # a file that has to be copied with that one, at this moment


class Find(Request[FoundSweep], frozen=True):
    """The sweep of this name; UnknownSweepError names those there are."""

    sweep: str
    with_main: bool = False  # without it `row.main` is None


class ListSweeps(Request[list[FoundSweep]], frozen=True):
    """Every sweep of the database, without its MAIN, in the order in which they were declared."""


MainChanged = Literal["keep", "rerun"]
"""What becomes of the finished rows when MAIN has changed: they stay, or run again."""


class Declare(Request[list[str]], frozen=True):
    """Create a sweep, or extend the one of its name; the answer says what changed, a line for each point.

    Whatever needs no database was checked before. UsageErrors say what contradicts the sweep that exists.
    """

    timeout_s: ClassVar[float] = 600.0  # a million trials are written
    spec: str  # canonical JSON of the SweepSpec
    main: str | None  # a MainNotebook's JSON; None: the sweep keeps its own. Its files came before, by `PutFiles`
    versions: dict[str, str]  # of the one who declares
    main_changed: MainChanged | None = None


class PutFiles(Request[int], frozen=True):
    """A piece of the archive of a MAIN's files; the answer is how many of its bytes are here now, none of them twice.

    So an empty piece asks how much is missing, and what was cut off goes on where it ended.
    """

    timeout_s: ClassVar[float] = 600.0  # on a slow line
    digest: str  # of what the archive holds
    size: int  # of the whole archive, in bytes
    offset: int  # where the piece begins
    piece: bytes


class ReadFiles(Request[bytes], frozen=True):
    """The piece of such an archive that begins at `offset`, empty at its end."""

    timeout_s: ClassVar[float] = 600.0
    digest: str
    offset: int


class Order(Request[None], frozen=True):
    """Something that this sweep is to do; UnknownSweepError names those there are."""

    sweep: str


class Start(Order, frozen=True):
    """Put the sweep in the queue, or have the one at work take in what was added to it."""

    expect_slots: int | None = None  # hold the first trials back until this many slots have loaded MAIN


class Pause(Order, frozen=True):
    """Give out no new trials; running ones go on."""


class Resume(Order, frozen=True):
    """Go on after a pause, or with what is held."""


class Stop(Order, frozen=True):
    """End the sweep when its running trials have ended."""


class Cancel(Order, frozen=True):
    """End the sweep now."""


class Retry(Order, frozen=True):
    """Queue trials again that came to a bad end: FAILED, LOST, or (None) whatever did not complete."""

    which: Literal["failed", "lost"] | None = None


class Delete(Order, frozen=True):
    """Delete the sweep with its trials; UsageError while it is at work or waits for its turn."""

    timeout_s: ClassVar[float] = 600.0


Table = Literal["trials", "attempts", "reports"]


class Page(msgspec.Struct, frozen=True, array_like=True):
    """Some rows of a table, each as the values of its dataclass in their order."""

    rows: list[Any]
    more: bool  # whether there are rows behind the last of these


class ReadRows(Request[Page], frozen=True):
    """The rows of a sweep's table behind the one with these keys: trial number, and attempt's number or step.

    What a trial printed comes with those that did not complete; `ReadOutput` has it for every one.
    """

    sweep_id: int
    table: Table
    after: tuple[int, int] | None = None  # None: from the first row on


class ReadOutput(Request[str], frozen=True):
    """The last lines that a trial printed; UsageError when there is no such trial."""

    sweep: str
    number: int


# What the engine answers notebooks that pull; `puller` tells one process from another.


class Pulled(msgspec.Struct, frozen=True):
    """A trial; or how the sweep ended; or what the puller waits for, if anything can be said: it asks again."""

    trial: Assignment | None = None
    over: SweepState | None = None
    sentence: str | None = None


class Pull(Request[Pulled], frozen=True):
    """The next trial for this notebook, or the one that it holds; held back for a while when there is none."""

    sweep: str
    puller: str
    node: str
    begin: bool = False  # it begins to pull: a sweep at rest goes on, one at work looks for what was added to it
    main_version: int = 1  # of the MAIN that it runs


class Push(Request[bool], frozen=True):
    """How the trial ended; whether that counts."""

    sweep: str
    puller: str
    ticket: int
    outcome: Outcome


class HeartbeatAnswer(msgspec.Struct, frozen=True):
    """Whether the puller still holds its trial, and whether the trial should be pruned."""

    held: bool = False
    prune: bool = False


class Heartbeat(Request[HeartbeatAnswer], frozen=True):
    """The puller lives, and its trial has reported these (step, value)."""

    sweep: str
    puller: str
    ticket: int
    points: list[tuple[int, float]] = []


class PutDown(Request[None], frozen=True):
    """The puller ends: what it holds is for another."""

    sweep: str
    puller: str


EngineRequest = (
    Find | ListSweeps | Declare | Start | Pause | Resume | Stop | Cancel | Retry | Delete | ReadRows | ReadOutput
) | (Pull | Push | Heartbeat | PutDown | PutFiles | ReadFiles | EndEngine)


# What is told unasked.


class Progress(msgspec.Struct, frozen=True, tag=True):
    """From the engine: the sweeps as `status --json` has them, and what runs on each node: a trial, a cell of MAIN."""

    sweeps: list[dict[str, Any]]
    trials: dict[str, str]
    setups: dict[str, SetupStatus] = {}


class NodeLost(msgspec.Struct, frozen=True, tag=True):
    """To the engine: the link to this node is gone for good; Ray will notice later."""

    node: str


# An error as an answer, and as an event of a supervisor that ends.


class Problem(msgspec.Struct, frozen=True):
    """An error on its way: class, sentence, exit code."""

    error: str
    kind: str = ""
    exit_code: int = 1

    @classmethod
    def of(cls, error: RaycolabError) -> Problem:
        """What an error comes to."""
        return cls(str(error), type(error).__name__, error.exit_code)

    def as_error(self) -> RaycolabError:
        """The error again, of its own class where `errors` has it, else by its exit code."""
        if self.kind in errors.__all__:
            found = getattr(errors, self.kind)
        else:  # one that is defined where it is raised, as the store's
            alike = (UsageError, ClusterError)
            found = next((each for each in alike if each.exit_code == self.exit_code), RaycolabError)
        error: RaycolabError = found(self.error or "The head refused without a reason.")
        return error


# As bytes.

_WHOLE_NUMBER = 1  # the extension type of whole numbers that MessagePack has no room for

_encoder = msgspec.msgpack.Encoder()


def encode(message: object) -> bytes:
    """A message as bytes; lone surrogates, which UTF-8 does not have, become question marks."""
    try:
        return _encoder.encode(message)
    except (OverflowError, UnicodeEncodeError):  # rare, so that the common case pays nothing for it
        return _encoder.encode(_encodable(msgspec.to_builtins(message)))


def decode(body: bytes | msgspec.Raw, kind: Any) -> Any:
    """The message of this type in bytes; msgspec.DecodeError when it is none."""
    try:
        return _decoder(kind).decode(body)
    except msgspec.ValidationError:  # a type that holds a number does not take the extension for it
        return msgspec.convert(msgspec.msgpack.decode(body, ext_hook=_whole_number), kind)


def decode_known(body: bytes, kinds: Any) -> Any:
    """The message in bytes, when it is one of these; None for any other."""
    try:
        return decode(body, kinds)
    except msgspec.DecodeError:
        return None


@cache
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind, ext_hook=_whole_number)


def _encodable(value: Any) -> Any:
    match value:
        case dict():
            return {_encodable(key): _encodable(each) for key, each in value.items()}
        case list() | tuple():
            return [_encodable(each) for each in value]
        case str():
            return value.encode("utf-8", "replace").decode()
        case int() if not -(2**63) <= value < 2**64:
            return msgspec.msgpack.Ext(_WHOLE_NUMBER, value.to_bytes(value.bit_length() // 8 + 1, signed=True))
    return value


def _whole_number(code: int, data: memoryview) -> int:
    if code != _WHOLE_NUMBER:
        raise msgspec.ValidationError(f"extension {code} is unknown")
    return int.from_bytes(data, signed=True)


# Rows in pages.

_ROW_TYPES: Mapping[Table, type] = {"trials": TrialRow, "attempts": AttemptRow, "reports": ReportRow}
_KEYS: Mapping[Table, tuple[str, ...]] = {
    "trials": ("number",),
    "attempts": ("trial", "number"),
    "reports": ("trial", "step"),
}


def page_of(table: Table, rows: Sequence[Any], *, more: bool) -> Page:
    """The first of these rows, as many as a page takes; `more` says whether the table has others behind them."""
    values_of = attrgetter(*(field.name for field in fields(_ROW_TYPES[table])))
    taken: list[Any] = []
    size = 0
    for row in rows:
        taken.append(values_of(row))
        size += len(encode(taken[-1]))
        if size > PAGE_BYTES:
            break
    return Page(taken, more or len(taken) < len(rows))


def rows_of(table: Table, page: Page) -> list[Any]:
    """The rows of a page."""
    kind = _ROW_TYPES[table]
    return [kind(*values) for values in msgspec.convert(page.rows, _values_type(kind))]


def keys_of(table: Table, row: Any) -> tuple[int, int]:
    """What `ReadRows.after` has for the page behind this row."""
    keys = [getattr(row, name) for name in _KEYS[table]]
    return keys[0], keys[-1]


@cache
def _values_type(kind: type) -> Any:
    hints = get_type_hints(kind)
    return list[GenericAlias(tuple, tuple(hints[field.name] for field in fields(kind)))]  # type: ignore[misc]
