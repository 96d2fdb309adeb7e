"""How long `import raycolab` takes, in a fresh process each time: less than anybody notices."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.bench.measure import report

RUNS = 15
MUST_S = 0.3
CODE = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"

pytestmark = pytest.mark.bench


def seconds(module: str) -> float:
    """The shortest of several runs: what the machine did besides only adds."""
    command = [sys.executable, "-c", CODE.format(module)]
    return min(float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(RUNS))


def test_import_raycolab() -> None:
    """Beside `asyncio` of the standard library, and with the first name that is used."""
    own, first, beside = seconds("raycolab"), seconds("raycolab; raycolab.start_head"), seconds("asyncio")
    report("import", raycolab_s=own, with_start_head_s=first, asyncio_s=beside, over_asyncio=own / beside)
    assert own < MUST_S
