"""Head and joiner on one plain machine, no namespaces: one loopback, two nodes, and nothing left at the end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from raycolab.providers.direct import own_address
from tests.integration.sessions import RAYCOLAB, all_slots_cell, processes_with, until, write_main, write_sweep
from tunnel.address import JoinAddress

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

MARK = "RAYCOLAB_TEST_SIDE_BY_SIDE"  # in the environment of every process that is started here
MAIN = "def compute(model, dataset, x):\n    wait_for_all_slots()\n    return x"
SWEEP = (
    "models: {a: {x: {min: 0.0, max: 1.0}}}",
    "datasets: [one, two]",
    "jobs_per_pair: 10",
    "metric: {name: score, goal: maximize}",
)


class Machine:
    """Commands on this machine, with a folder for all they write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self._env = {**os.environ, MARK: str(folder), "TMPDIR": str(folder)}
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`raycolab ARGUMENTS` in the background; its stdout can be read."""
        with (self.folder / f"{arguments[0]}.err").open("ab") as errors:
            process = subprocess.Popen(
                [*RAYCOLAB, *arguments],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def raycolab(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of the running cluster, to its end."""
        command = [*RAYCOLAB, *arguments, "--data-dir", str(self.data_dir)]
        return subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=120)

    def start_head(self) -> tuple[subprocess.Popen[str], str]:
        """A head with the provider direct and its join address, as `head --json` tells it."""
        command = ("head", "--json", "--provider", "direct", "--num-cpus", "1", "--data-dir", str(self.data_dir))
        process = self.start(*command)
        assert process.stdout is not None
        said = json.loads(process.stdout.readline() or "{}")
        assert said.get("event") == "up", (said, (self.folder / "head.err").read_text())
        return process, said["join_address"]

    def processes(self) -> list[str]:
        """Every process that was started here, and what they started."""
        return processes_with(MARK, str(self.folder))

    def end(self) -> None:
        """End what is left."""
        for process in self._started:
            process.terminate()
            process.wait(60)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """This machine, cleaned up at the end; its folder has a short path, for the sockets in it."""
    made = Machine(Path(tempfile.mkdtemp(prefix="rct-")))
    yield made
    made.end()
    shutil.rmtree(made.folder)


@pytest.mark.slow
def test_a_head_and_a_joiner_side_by_side(machine: Machine) -> None:
    """Both run trials; `down` ends both with 0 and leaves nothing; a new head has the old one's address."""
    head, address = machine.start_head()
    url = JoinAddress.parse(address).url
    assert url.startswith(f"ws://{own_address()}:")
    (machine.folder / "address").write_text(address)
    joiner = machine.start("join", f"@{machine.folder / 'address'}", "--num-cpus", "1")

    def states() -> dict[str, str]:
        return {
            node["name"]: node["state"] for node in json.loads(machine.raycolab("status", "--json").stdout)["nodes"]
        }

    until(lambda: states() == {"head": "up", "joiner-1": "up"}, 60, states)
    write_main(machine.folder, all_slots_cell(machine.data_dir, 2), MAIN)
    ended = machine.raycolab("submit", str(write_sweep(machine.folder, "beside", SWEEP)), "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["complete"] == 20
    rows = json.loads(machine.raycolab("results", "beside", "--format", "json").stdout)
    assert {row["node"] for row in rows} == {"head", "joiner-1"}

    assert machine.raycolab("down").returncode == 0
    assert (head.wait(30), joiner.wait(30)) == (0, 0)
    assert joiner.stdout is not None
    assert joiner.stdout.read().splitlines()[-1] == "This machine is no longer part of the cluster."
    until(lambda: not machine.processes(), 10, machine.processes)
    left = {path.name for path in machine.folder.iterdir()}
    assert left == {"address", "data", "MAIN.ipynb", "beside.yaml", "head.err", "join.err"}
    assert (machine.folder / "head.err").read_text() == ""
    assert (machine.folder / "join.err").read_text() == ""

    again, same = machine.start_head()
    assert same == address
    assert machine.raycolab("down").returncode == 0
    assert again.wait(30) == 0
