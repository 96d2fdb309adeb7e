"""What the benches measure across a `Way`: goodput, shares, round trips; and the numbers made of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from tests.bench.processes import Way, load

__all__ = ["connects", "goodput", "percentile", "pings", "report", "spread", "together", "transfer"]

Series = list[tuple[float, float]]
"""(when, value)."""


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that `percent` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def spread(values: Sequence[float]) -> float:
    """The largest over the smallest."""
    return max(values) / min(values)


def report(bench: str, **figures: object) -> None:
    """Print one JSON line, with the machine's load, for RESULTS.md."""
    rounded = {name: _rounded(value) for name, value in figures.items()}
    with open("/proc/loadavg") as file:
        load_average = float(file.read().split()[0])
    sys.stdout.write("\n" + json.dumps({"bench": bench, **rounded, "load_average": load_average}) + "\n")
    sys.stdout.flush()


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _rates(sinks: list[dict[str, Any]], seconds: float, skip_s: float) -> tuple[list[float], float, float]:
    """Bytes per second of each stream while all were sent and after the first `skip_s`; when that was."""
    begin = max(sink["samples"][0][0] for sink in sinks) + skip_s
    end = begin + (seconds - skip_s) * 0.95  # what is still under way at the end is nobody's share
    rates = []
    for sink in sinks:
        within = [(at, count) for at, count in sink["samples"] if begin <= at <= end]
        (first, before), (last, after) = within[0], within[-1]
        rates.append((after - before) / (last - first))
    return rates, begin, end


def goodput(
    way: Way, seconds: float, skip_s: float, *, streams: int = 1, data: str = "random"
) -> tuple[list[float], int]:
    """Bytes per second that came out of each stream, in the same steady seconds; bytes that came out in all."""
    with load("bulk", way.entry, seconds=seconds, streams=streams, data=data) as bulk:
        sinks = bulk.says(seconds + 60)["streams"]
    return _rates(sinks, seconds, skip_s)[0], sum(sink["bytes"] for sink in sinks)


def pings(way: Way, seconds: float, streams: int = 1, apart: float = 0.0) -> list[float]:
    """Round trips of 64 bytes while nothing else goes on."""
    with load("ping", way.entry, seconds=seconds, streams=streams, apart=apart) as ping:
        return [took for stream in ping.says(seconds + 60)["streams"] for _, took in stream]


def together(
    way: Way, seconds: float, skip_s: float, streams: int = 1, apart: float = 0.0
) -> tuple[float, list[float]]:
    """Bytes per second of one bulk stream of random bytes, and the round trips of pings beside it."""
    with (
        load("bulk", way.entry, seconds=seconds) as bulk,
        load("ping", way.entry, seconds=seconds, streams=streams, apart=apart) as ping,
    ):
        rates, begin, end = _rates(bulk.says(seconds + 60)["streams"], seconds, skip_s)
        streams_seen = ping.says(60)["streams"]
    return rates[0], [took for stream in streams_seen for at, took in stream if begin <= at <= end]


def connects(way: Way, seconds: float) -> list[float]:
    """Seconds from connect to the first byte back."""
    with load("connect", way.entry, seconds=seconds) as client:
        return [took for stream in client.says(seconds + 60)["streams"] for _, took in stream]


def transfer(way: Way, size: int, streams: int = 1) -> list[tuple[int, bool]]:
    """Send `size` random bytes on each stream; how many came, and whether their SHA-256 is right."""
    with load("bulk", way.entry, bytes=size, streams=streams) as bulk:
        sinks = bulk.says(600)["streams"]
    return [(sink["bytes"], sink["sha256"] == sink["sent"]) for sink in sinks]
