"""The tunnel at a slow line with a deep buffer, two hops, and OpenSSH at the same line.

Each agent's link is 50 Mbit/s with 100 ms of round trip and 1 MB of buffer each way. `bulk_of_line` and the others of
this kind are goodput over the line's rate; `ping_..._ratio` is a round trip of 64 bytes beside a bulk stream over the
median of an idle one.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from tests.bench.measure import goodput, percentile, pings, report, spread, together, transfer
from tests.bench.openssh import missing, openssh
from tests.bench.processes import LINE, Line, Way, load, tunnel

PINGS = 4  # ping-pongs at once, a quarter of a round trip apart: 200 samples in 10 s rather than 40 s


def beside_bulk(way: Way, line: Line, seconds: float, skip_s: float) -> dict[str, float]:
    """One bulk stream as a part of the line, and the pings beside it as multiples of the idle round trip."""
    apart = line.delay_s
    idle = pings(way, max(seconds / 4, 8 * line.delay_s), PINGS, apart)
    rate, beside = together(way, seconds, skip_s, PINGS, apart)
    round_trip = statistics.median(idle)
    return {
        "idle_ms": round_trip * 1000,
        "idle_samples": len(idle),
        "bulk_of_line": rate / line.rate,
        "ping_p50_ratio": percentile(beside, 50) / round_trip,
        "ping_p99_ratio": percentile(beside, 99) / round_trip,
        "ping_samples": len(beside),
    }


@pytest.mark.bench
@pytest.mark.timeout(300)
def test_one_bulk_stream_fills_the_line_and_pings_pass_it(tmp_path: Path) -> None:
    """Must show 4, side by side with OpenSSH at a line of the same kind."""
    with tunnel(LINE) as way, load("serve", way.service) as service:
        service.says()
        ours = beside_bulk(way, LINE, 23, 3)
        shares, _ = goodput(way, 23, 3, streams=3)
        text, _ = goodput(way, 13, 3, data="text")
    figures: dict[str, object] = {
        **ours,
        "share_spread": spread(shares),
        "three_of_line": sum(shares) / LINE.rate,
        "compressible_of_line": text[0] / LINE.rate,
    }
    if not missing():
        with openssh(tmp_path / "ssh", LINE) as way, load("serve", way.service) as service:
            service.says()
            figures |= {f"openssh_{name}": value for name, value in beside_bulk(way, LINE, 23, 3).items()}
    report("line", **figures)


def test_bytes_and_pings_pass_a_line_together(tmp_path: Path) -> None:
    """The bench in small: bytes come whole through three streams at once, and pings come back beside a bulk stream."""
    line = Line(rate=4e6, delay_s=0.01, buffer_bytes=200_000)
    with tunnel(line) as way, load("serve", way.service) as service:
        service.says()
        assert transfer(way, 300_000, streams=3) == [(300_000, True)] * 3
        figures = beside_bulk(way, line, 1.0, 0.2)
    assert 0 < figures["bulk_of_line"] < 1.1
    assert figures["idle_ms"] >= 4 * 10
    assert figures["ping_samples"] > 0
