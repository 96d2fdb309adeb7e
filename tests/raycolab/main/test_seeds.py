"""One trial harms no other: each starts from its seed, in the same directory, with the same path and its own output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raycolab.main.runtime import MainRuntime
from raycolab.main.seeds import set_seed
from raycolab.main.work_folder import Place
from raycolab.trials import Config, Outcome, Scalar, TrialState
from tests.raycolab.main.mains import ACCURACY, Load

DRAWS = """
import random
import numpy as np
try:
    import torch
except ImportError:
    torch = None
random.seed(0); np.random.seed(0)

def compute(C=1.0):
    drawn = [random.random(), np.random.rand(), *([] if torch is None else [torch.rand(1).item()])]
    return {"accuracy": sum(drawn), "list": repr(drawn)}
"""
LATE = "def compute():\n    import numpy as np\n    return float(np.random.rand())"


def run(runtime: MainRuntime, seed: int | None, config: Config | None = None) -> Outcome:
    """One trial."""
    return runtime.compute("svc", "iris", config or {}, ACCURACY, seed=seed)


def metrics(load: Load, cell: str, *seeds: int | None) -> list[dict[str, Scalar]]:
    """What trials with these seeds return, one after another in one process."""
    runtime = load(cell)
    runtime.setup()
    outcomes = [run(runtime, seed) for seed in seeds]
    assert [outcome.failure for outcome in outcomes] == [None] * len(seeds)
    return [dict(outcome.metrics) for outcome in outcomes]


def test_a_seed_in_a_cell_held_for_the_first_trial_only(load: Load) -> None:
    """Each trial draws what its own seed gives, whichever ran before it, and two seeds give two results."""
    forth = metrics(load, DRAWS, 7, 8, 9)
    back = metrics(load, DRAWS, 9, 8, 7)
    assert forth == back[::-1]
    assert len({repr(found) for found in forth}) == 3


def test_numpy_that_a_trial_is_the_first_to_import_starts_from_the_seed_too() -> None:
    """`import numpy` inside compute: the first trial of a process and the second give the same."""
    program = (
        "import sys; from raycolab.main.seeds import seeded\n"
        "assert 'numpy' not in sys.modules\n"
        "for _ in range(2):\n"
        "    with seeded(5):\n"
        "        import numpy\n"
        "        print(numpy.random.rand())\n"
        "assert not [each for each in sys.meta_path if 'raycolab' in type(each).__module__]"
    )
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    first, second = ended.stdout.split()
    assert first == second


def test_reseed_false_leaves_random_numbers_where_they_are(load: Load) -> None:
    """Without a seed the second trial goes on where the first stopped, as calls in a notebook do."""
    cell = "import random\nrandom.seed(0)\ndef compute():\n    return random.random()"
    assert metrics(load, cell, None, None) == [{"accuracy": 0.8444218515250481}, {"accuracy": 0.7579544029403025}]


def test_the_line_that_is_printed_gives_the_rows_number_again(load: Load) -> None:
    """`set_seed` in a notebook, then compute: the same numbers as the trial's."""
    [row] = metrics(load, DRAWS, 123456789)
    names: dict[str, object] = {}
    exec(DRAWS, names)
    set_seed(123456789)
    assert names["compute"]() == row  # type: ignore[operator]


@pytest.mark.parametrize(
    "harm",
    [
        "os.makedirs('elsewhere', exist_ok=True); os.chdir('elsewhere')",
        "os.makedirs('elsewhere', exist_ok=True); os.chdir('elsewhere'); os.rmdir(os.getcwd())",
        "sys.path.insert(0, 'elsewhere')",
        "sys.path.clear()",
        "sys.stdout = sys.stderr = None",
        "sys.stdout.close(); sys.__stdout__.flush(); os.close(1)",
        "random.seed(0)",
        "sys.meta_path[:] = [each for each in sys.meta_path if 'raycolab' not in type(each).__module__]",
    ],
)
def test_what_one_trial_does_moves_no_other(load: Load, harm: str) -> None:
    """Directory, path, streams and seeds are what they were, also where the trial fails."""
    runtime = load(
        "import os, random, sys",
        "def compute(x):\n"
        "    found = repr((os.getcwd(), sys.path[:3], random.random()))\n"
        "    print('here')\n"
        f"    if x: {harm.replace(chr(10), ';')}\n"
        "    if x == 2: raise ValueError('bad')\n"
        "    return {'accuracy': x, 'found': found}",
    )
    runtime.setup()
    before = run(runtime, 1, {"x": 0})
    run(runtime, 1, {"x": 1})
    failed = run(runtime, 1, {"x": 2})
    after = run(runtime, 1, {"x": 0})
    assert failed.state is TrialState.FAILED
    assert (after.state, after.metrics, after.output) == (TrialState.COMPLETE, before.metrics, "here\n")


def test_a_directory_that_a_trial_removes_is_there_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is empty then: what was in it is gone, but relative paths lead somewhere."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    here = Place.now("/")
    place.rmdir()
    here.enter()
    assert Path(os.getcwd()) == place
    assert list(place.iterdir()) == []


def test_a_cell_may_lead_elsewhere(load: Load, tmp_path: Path) -> None:
    """`%cd` in a cell holds for every trial, as it does for every call in a notebook."""
    runtime = load(
        "import os\nos.mkdir('repo')\n%cd repo",
        "def compute():\n    here = os.getcwd()\n    os.chdir('/')\n    return {'accuracy': 1, 'here': here}",
    )
    runtime.setup()
    for _ in range(2):
        outcome = run(runtime, 1)
        assert Path(str(outcome.metrics["here"])).name == "repo"
