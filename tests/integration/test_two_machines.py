"""Two machines with a network between them, each with an address of its own: what the README says of them, typed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from raycolab.sandbox.sessions import SimulatedSession
from tests.integration.sessions import RAYCOLAB, until, write_main, write_sweep
from tests.programs import needs
from tests.test_readme import README, blocks

pytestmark = [pytest.mark.ray, pytest.mark.skipif(os.geteuid() != 0, reason="a cable between two machines takes root")]

# All but the first trial, which runs alone, go on once both machines have begun one.
MAIN = """
import pathlib, socket, time
def compute(x):
    marks = pathlib.Path(MARKS)
    first = not marks.exists()
    marks.mkdir(exist_ok=True)
    (marks / socket.gethostname()).touch()
    while not first and len(list(marks.iterdir())) < 2:
        time.sleep(0.05)
    return {"metric": x, "host": socket.gethostname()}
"""


class Machine:
    """One with its own disk for temporary files, but for a folder that both have."""

    def __init__(self, name: str, address: str, folder: Path) -> None:
        self.name, self.address, self.folder = name, address, folder
        self.session = SimulatedSession(shared=[folder], hostname=name)
        self.started: list[subprocess.Popen[bytes]] = []

    def plug_in(self, end: str) -> None:
        """Have one end of a cable."""
        pid = str(self.session.first_process)
        ip = needs("ip")
        inside = ["nsenter", "-t", pid, "-n"]
        subprocess.run([ip, "link", "set", end, "netns", pid], check=True)
        subprocess.run([*inside, ip, "addr", "add", f"{self.address}/24", "dev", end], check=True)
        subprocess.run([*inside, ip, "link", "set", end, "up"], check=True)

    def start(self, *words: str) -> None:
        """Run a command that stays."""
        with (self.folder / f"{self.name}.log").open("ab") as log:
            command = self.session.command([*RAYCOLAB, *words], cwd=self.folder)
            self.started.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return self.session.run([*RAYCOLAB, *words], cwd=self.folder, env=self.environment, timeout_s=120)

    @property
    def environment(self) -> dict[str, str]:
        """Both would have one data directory otherwise."""
        return {**os.environ, "RAYCOLAB_DATA_DIR": f"{self.folder}/{self.name}"}

    def said(self) -> str:
        """What its commands printed."""
        return (self.folder / f"{self.name}.log").read_text(errors="replace")


@pytest.fixture
def machines() -> Iterator[tuple[Machine, Machine]]:
    """Two machines and a cable; there is no way out of this network."""
    folder = Path(tempfile.mkdtemp(prefix="rct-"))
    one, other = Machine("one", "10.99.0.1", folder), Machine("other", "10.99.0.2", folder)
    try:
        with one.session, other.session:
            subprocess.run([needs("ip"), "link", "add", "rct0", "type", "veth", "peer", "name", "rct1"], check=True)
            one.plug_in("rct0")
            other.plug_in("rct1")
            yield one, other
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_readmes_block_gave_an_address_that_only_the_head_could_dial(machines: tuple[Machine, Machine]) -> None:
    """The head says the address by which the other machine reaches it, and both compute."""
    head, joiner = machines
    (block,) = (each for each in blocks(README, "bash") if "--join-address-file address" in each)
    typed = [re.sub(r"[&#].*", "", line).split()[1:] for line in block.splitlines()]
    assert [words[0] for words in typed] == ["head", "join", "submit", "results", "down"]
    write_main(head.folder, MAIN.replace("MARKS", repr(str(head.folder / "marks"))))
    sweep = write_sweep(head.folder, "sweep", ["parameters: {x: {min: 0.0, max: 1.0}}", "jobs_per_pair: 10"])
    head.start(*typed[0])
    until((head.folder / "address").exists, 90, head.said)
    assert (head.folder / "address").read_text().startswith("tunnel+ws://10.99.0.1:")
    joiner.start(*typed[1])
    until(lambda: "is up with" in joiner.said(), 90, joiner.said)
    done = head.run("submit", str(sweep), *typed[2][2:], "--set", "jobs_per_pair=10")
    assert done.returncode == 0, done.stderr
    best = head.run("results", "sweep", *typed[3][2:])
    assert json.loads(best.stdout)["state"] == "COMPLETE"
    nodes = {row["host"] for row in json.loads(head.run("results", "sweep", "--format", "json").stdout)}
    assert nodes == {"one", "other"}
    assert head.run(*typed[4]).returncode == 0
    assert [process.wait(60) for process in (*head.started, *joiner.started)] == [0, 0]
