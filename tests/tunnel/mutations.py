"""What a fuzzer makes of an agent's words: frames with a wrong type, length, stream, sequence or payload. Sans-I/O.

A `Piece` is a frame that need not be a good one. Everything random comes from the `random.Random` given.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tunnel.frames import MAX_PAYLOAD, SEQUENCED, Frame, FrameType

__all__ = ["Piece", "as_bytes", "mutate", "mutate_json", "pieces", "spoil"]

_HEADER = struct.Struct("!III")
_EDGES = (0, 1, 2, 3, 255, 16_384, 65_535, 65_536, 2**31, 2**32 - 1, 2**40, 2**40 + 1, 2**63, 2**64 - 1)
_JUNK: tuple[Any, ...] = (
    None, True, False, -1, 0, 1.5, 1e308, 254, 255, 10_000, 2**63, 10**400, "", "x", "\ud800", "\u202e", "é" * 20_000,
    [], {}, [[]], [None], [1] * 9000, {"node": 2, "port": 10_016}, {"node": {}, "port": []}, "NaN",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Piece:
    """A frame as it is to go out; `length` is what its header says when that is not the payload's."""

    kind: int
    stream: int
    payload: bytes
    sequence: int | None = None  # None: the next one, as a link would number it
    length: int | None = None

    @property
    def sequenced(self) -> bool:
        """Whether a hub counts it."""
        return self.kind in SEQUENCED


def pieces(frames: list[Frame]) -> list[Piece]:
    """An agent's true words, whose sequences are assigned again."""
    return [Piece(int(frame.type), frame.stream, bytes(frame.payload)) for frame in frames]


def as_bytes(words: list[Piece], sequence: int) -> tuple[bytes, int]:
    """The batch, numbered from `sequence` + 1 on, and the last sequence in it."""
    parts = []
    for piece in words:
        sequence += piece.sequenced
        said = piece.sequence if piece.sequence is not None else sequence * piece.sequenced
        length = len(piece.payload) if piece.length is None else piece.length
        word = (piece.kind & 0xFF) << 24 | length & 0xFFFFFF
        parts += [_HEADER.pack(word, piece.stream & 0xFFFFFFFF, said & 0xFFFFFFFF), piece.payload]
    return b"".join(parts), sequence


def mutate(rng: random.Random, words: list[Piece], at: int) -> list[Piece]:
    """The words with one change at place `at`."""
    return rng.choice(_CHANGES)(rng, words, at)


def spoil(rng: random.Random, data: bytes) -> bytes:
    """Bytes that are not what they were: a bit, a cut, a doubled or foreign stretch, or nothing of the old at all."""
    if not data:
        return rng.randbytes(rng.randrange(1, 40))
    at, stop = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    match rng.randrange(6):
        case 0:
            at = rng.randrange(len(data))
            return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at]
        case 2:
            return data[:stop] + data[at:]
        case 3:
            return data[:at] + rng.randbytes(stop - at) + data[stop:]
        case 4:
            return data[:at] + rng.randbytes(rng.randrange(1, 30)) + data[at:]
        case _:
            return rng.randbytes(len(data))


def mutate_json(rng: random.Random, payload: bytes) -> bytes:
    """A JSON object with other values, keys or depth; now and then none at all."""
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):  # it was mutated before
        return spoil(rng, payload)
    if not isinstance(body, dict):
        return spoil(rng, payload)
    match rng.randrange(8):
        case 0:
            return spoil(rng, payload)
        case 1:
            return json.dumps(body).encode(rng.choice(["utf-16", "utf-32", "utf-8-sig"]))
        case 2:
            depth = rng.choice([5, 400, 900, 950, 975, 985, 990, 995, 1000, 5000])
            key = rng.choice([*body, "reason"])
            text = json.dumps({**body, key: 0}, separators=(",", ":")).replace(f'"{key}":0', f'"{key}":@', 1)
            opening, closing = rng.choice([("[", "]"), ('{"a":', "}")])
            return text.replace("@", opening * depth + "1" + closing * depth, 1).encode()
        case 3 if body:
            del body[rng.choice([*body])]
        case _:
            body[rng.choice([*body, "reason", "listening", "taken", "application"])] = rng.choice(_JUNK)
    text = json.dumps(body, ensure_ascii=rng.random() < 0.5, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


_Change = Callable[[random.Random, list[Piece], int], list[Piece]]


def _with(words: list[Piece], at: int, *instead: Piece) -> list[Piece]:
    return [*words[:at], *instead, *words[at + 1 :]]


def _kind(rng: random.Random, words: list[Piece], at: int) -> list[Piece]:
    kind = rng.choice([int(rng.choice(list(FrameType))), rng.randrange(256)])
    return _with(words, at, replace(words[at], kind=kind))


def _stream(rng: random.Random, words: list[Piece], at: int) -> list[Piece]:
    stream = rng.choice([0, 1, 2, 3, 4, 5, words[at].stream ^ 1, words[at].stream + 2, 2**32 - 1, rng.randrange(2**32)])
    return _with(words, at, replace(words[at], stream=stream))


def _sequence(rng: random.Random, words: list[Piece], at: int) -> list[Piece]:
    return _with(words, at, replace(words[at], sequence=rng.choice([0, 1, at, at + 2, 2**32 - 1, rng.randrange(99)])))


def _length(rng: random.Random, words: list[Piece], at: int) -> list[Piece]:
    true = len(words[at].payload)
    length = rng.choice([0, 1, true + 1, max(true - 1, 0), MAX_PAYLOAD, MAX_PAYLOAD + 1, 2**24 - 1])
    return _with(words, at, replace(words[at], length=length))


def _payload(rng: random.Random, words: list[Piece], at: int) -> list[Piece]:
    payload = words[at].payload
    if words[at].kind in (FrameType.ROSTER, FrameType.MESSAGE, FrameType.GOODBYE):
        return _with(words, at, replace(words[at], payload=mutate_json(rng, payload)))
    if len(payload) == 8 and rng.random() < 0.7:
        return _with(words, at, replace(words[at], payload=rng.choice(_EDGES).to_bytes(8, "big")))
    if words[at].kind == FrameType.OPEN:
        node, port = rng.choice([0, 1, 2, 3, 4, 254, 65_535]), rng.choice([0, 10_000, 10_016, 65_535])
        return _with(words, at, replace(words[at], payload=struct.pack("!HH", node, port)))
    return _with(words, at, replace(words[at], payload=spoil(rng, payload)))


def _large(rng: random.Random, words: list[Piece], at: int) -> list[Piece]:
    return _with(words, at, replace(words[at], payload=bytes(rng.choice([16_384, 16_385, 49_153, MAX_PAYLOAD]))))


def _twice(rng: random.Random, words: list[Piece], at: int) -> list[Piece]:
    return _with(words, at, words[at], *[words[at]] * rng.choice([1, 1, 1, 2, 30]))


def _drop(rng: random.Random, words: list[Piece], at: int) -> list[Piece]:
    return _with(words, at)


def _swap(rng: random.Random, words: list[Piece], at: int) -> list[Piece]:
    other = rng.randrange(len(words))
    mixed = list(words)
    mixed[at], mixed[other] = mixed[other], mixed[at]
    return mixed


def _insert(rng: random.Random, words: list[Piece], at: int) -> list[Piece]:
    """A frame that is good by itself and has no place here."""
    kind = rng.choice([FrameType.OPENED, FrameType.FINISH, FrameType.CREDIT, FrameType.RESET, FrameType.DATA_WAITING])
    payload = rng.choice(_EDGES).to_bytes(8, "big") if kind in (FrameType.CREDIT, FrameType.RESET) else b""
    return _with(words, at, Piece(int(kind), rng.choice([1, 2, 3, 4, 5, words[at].stream]), payload), words[at])


_CHANGES: tuple[_Change, ...] = (
    _kind, _stream, _sequence, _length, _payload, _payload, _payload, _large, _twice, _drop, _swap, _insert, _insert,
)  # fmt: skip
