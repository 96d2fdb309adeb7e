"""Every no of a cluster: exit code and sentence, as whoever typed the command sees them, and never a traceback."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from raycolab.cluster import attach
from raycolab.errors import UnknownNodeError
from raycolab.node.ray_command import RayPorts, ports_needed
from tests.integration.sessions import RAYCOLAB, Cluster, Tab, until, write_main, write_sweep
from tunnel.address import JoinAddress
from tunnel.nodes import Roster

pytestmark = pytest.mark.timeout(180)

GOOD = "def compute(model, dataset, x):\n    return x"
HOLDER = """
import socket, sys, time
taken = socket.socket()
taken.bind((sys.argv[1], int(sys.argv[2])))
if sys.argv[3] == "listen":
    taken.listen()
open(sys.argv[4], "w").close()
time.sleep(600)
"""


def raycolab(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`raycolab ARGUMENTS` to its end; whatever is wrong, it is told without a traceback."""
    ended = subprocess.run(
        [*RAYCOLAB, *arguments],
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended


@contextlib.contextmanager
def held_port(folder: Path, address: str, port: int, how: str) -> Iterator[Tab]:
    """A session in which another program has a port, bound or listening."""
    tab, held = Tab(folder, "crowded"), folder / f"held-{port}"
    with tab.session:
        command = tab.command(sys.executable, "-c", HOLDER, address, str(port), how, str(held))
        with subprocess.Popen(command) as process:
            until(held.exists, 20, lambda: "the port is not held")
            yield tab
            process.kill()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of a short path that sessions share."""
    path = Path(tempfile.mkdtemp(prefix="rct-"))
    yield path
    shutil.rmtree(path)


class TestAHeadThatCannotStart:
    """Told before Ray is started."""

    def test_an_address_of_another_machine(self, tmp_path: Path) -> None:
        """A usage error, though only the machine knows."""
        ended = raycolab("head", "--listen", "192.0.2.1:0", "--data-dir", str(tmp_path))
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr == (
            "192.0.2.1:0 is not an address of this machine: give --listen one it has, such as 127.0.0.1:0, and --url "
            "what joiners dial.\n"
        )

    def test_a_taken_port(self, tmp_path: Path) -> None:
        """Exit code 3, who has it, and what to do; as JSON on stdout where that was asked for."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            command = ("head", "--json", "--listen", f"127.0.0.1:{port}", "--data-dir", str(tmp_path))
            ended = raycolab(*command)
        sentence = (
            f"Port {port} on 127.0.0.1 is in use by {Path(sys.executable).name} (process {os.getpid()}), so the head "
            "cannot listen there: stop that program, or give --listen another port (port 0 takes any free one)."
        )
        assert (ended.returncode, ended.stderr) == (3, f"{sentence}\n")
        said = json.loads(ended.stdout)
        assert said == {"event": "failed", "error": sentence, "kind": "PortTakenError", "exit_code": 3}

    def test_a_taken_port_of_ray(self, folder: Path) -> None:
        """A port in the node's block that no table of listeners shows: the head ends before Ray tries it."""
        block = Roster().join(name="head", ports=ports_needed(1), namespace="", busy=()).block
        port = RayPorts.of(block).object_manager
        with held_port(folder, "0.0.0.0", port, "bind") as tab:
            ended = tab.run(*RAYCOLAB, "head", "--provider", "direct", "--num-cpus", "1", "--data-dir", str(folder))
        assert (ended.returncode, ended.stdout) == (3, "")
        assert ended.stderr == (
            f"Port {port} is in use by another program on this machine, and Ray needs it here. "
            f"End that program (`ss -ltnp 'sport = :{port}'` names it), then start again.\n"
        )

    def test_a_data_directory_that_cannot_be(self) -> None:
        """Nothing can be made in /proc, whoever one is."""
        ended = raycolab("head", "--provider", "direct", "--data-dir", "/proc/data")
        assert (ended.returncode, ended.stderr) == (
            2,
            "/proc/data cannot be the data directory (No such file or directory): give --data-dir, or "
            "RAYCOLAB_DATA_DIR, a folder you may write to.\n",
        )

    def test_closed_streams(self, tmp_path: Path) -> None:
        """Nothing is written to a file that took stdout's place."""
        command = f'"$0" -P -m raycolab head --listen 192.0.2.1:0 --data-dir {tmp_path} <&- >&- 2>&-'
        assert subprocess.run(["sh", "-c", command, sys.executable]).returncode == 2


@pytest.mark.ray
class TestAJoinerThatIsRefused:
    """Exit code 3, and one sentence with the cure; the head goes on."""

    @staticmethod
    def join(lone_head: Cluster, address: JoinAddress) -> subprocess.CompletedProcess[str]:
        """`raycolab join` with the address in the environment."""
        return raycolab("join", "--num-cpus", "1", env={"RAYCOLAB_JOIN_ADDRESS": address.text})

    @staticmethod
    def address(lone_head: Cluster) -> JoinAddress:
        """The head's."""
        return JoinAddress.parse(lone_head.address_file.read_text())

    def test_a_wrong_secret(self, lone_head: Cluster) -> None:
        """An address whose checksum is right."""
        right = self.address(lone_head)
        ended = self.join(lone_head, JoinAddress(right.url, right.pin, bytes(32)))
        assert (ended.returncode, ended.stderr) == (
            3,
            "The secret in this join address is not the head's. Ask the head for its current join address.\n",
        )

    def test_a_wrong_pin(self, lone_head: Cluster) -> None:
        """Somebody in between, or another head in its place."""
        right = self.address(lone_head)
        ended = self.join(lone_head, JoinAddress(right.url, bytes(32), right.secret))
        assert (ended.returncode, ended.stderr) == (
            3,
            "The certificate at this address is not the one the join address names: either the address is from an "
            "earlier head, or someone stands in between. It was told nothing. Ask the head for its current join "
            "address.\n",
        )

    def test_a_cut_address(self, lone_head: Cluster, tmp_path: Path) -> None:
        """Is no address, so it is a usage error."""
        (tmp_path / "address").write_text(lone_head.address_file.read_text().strip()[:-7])
        ended = raycolab("join", f"@{tmp_path / 'address'}")
        assert (ended.returncode, ended.stderr) == (
            2,
            "This join address is cut short: 84 of the 91 characters after its # are there. Copy the whole line that "
            "the head prints.\n",
        )

    @pytest.mark.parametrize(
        ("package", "name", "cure"),
        [
            ("ray", "Ray", "run `pip install ray=={0}` on the joiner"),
            ("raycolab", "raycolab", "install raycolab {0} on the joiner"),
        ],
    )
    def test_another_version_of_a_package(
        self, lone_head: Cluster, tmp_path: Path, package: str, name: str, cure: str
    ) -> None:
        """Both versions, and what to install."""
        info = tmp_path / f"{package}-9.9.9.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 9.9.9\n")
        ended = raycolab("join", f"@{lone_head.address_file}", env={"PYTHONPATH": str(tmp_path)})
        ours = metadata.version(package)
        assert (ended.returncode, ended.stderr) == (
            3,
            f"The head has {name} {ours} and this joiner 9.9.9, which cannot form one cluster: "
            f"{cure.format(ours)}, then join again.\n",
        )

    def test_another_python(self, lone_head: Cluster, tmp_path: Path) -> None:
        """Another minor version, that is. As JSON the sentence is an event too."""
        (tmp_path / "sitecustomize.py").write_text("import platform\nplatform.python_version = lambda: '3.99.1'\n")
        ended = raycolab("join", "--json", f"@{lone_head.address_file}", env={"PYTHONPATH": str(tmp_path)})
        minor = f"3.{sys.version_info.minor}"
        sentence = (
            f"The head has Python {minor}.{sys.version_info.micro} and this joiner 3.99.1, which cannot form one"
            f" cluster: give the joiner a runtime with any Python {minor}, then join again."
        )
        assert (ended.returncode, ended.stderr) == (3, f"{sentence}\n")
        connecting, failed = map(json.loads, ended.stdout.splitlines())
        assert connecting["event"] == "connecting"
        assert failed == {"event": "failed", "error": sentence, "kind": "JoinError", "exit_code": 3}

    def test_a_taken_port_of_a_relay(self, lone_head: Cluster) -> None:
        """Something listens where this machine would have to stand for the head."""
        gcs = RayPorts.of(Roster().join(name="head", ports=ports_needed(1), namespace="", busy=()).block).gcs
        with held_port(lone_head.folder, "127.77.0.1", gcs, "listen") as tab:
            ended = tab.run(*RAYCOLAB, "join", f"@{lone_head.address_file}", "--num-cpus", "1")
        assert ended.returncode == 3, ended.stderr
        assert ended.stderr == (
            f"Port {gcs} of 127.77.0.1 is in use by another program on this machine. "
            f"End that program (`ss -ltnp 'sport = :{gcs}'` names it), then try again.\n"
        )

    def test_a_taken_port_at_another_joiner(self, lone_head: Cluster) -> None:
        """Who was there first stays; the newcomer is told where the port is taken, and ends with 3 too."""
        first, second = lone_head.start_joiner("first"), Tab(lone_head.folder, "second")
        until(lambda: "joined as " in first.said(), 30, first.said)
        name = first.said().partition("joined as ")[2].splitlines()[0]
        roster = Roster()
        blocks = [roster.join(name=None, ports=ports_needed(1), namespace="", busy=()).block for _ in range(3)]
        port, held = RayPorts.of(blocks[2]).object_manager, lone_head.folder / "held-there"
        command = first.command(sys.executable, "-c", HOLDER, "0.0.0.0", str(port), "bind", str(held))
        with subprocess.Popen(command) as holder, second.session:
            until(held.exists, 20, lambda: "the port is not held")
            ended = second.run(*RAYCOLAB, "join", f"@{lone_head.address_file}", "--num-cpus", "1", "--name", "late")
            holder.kill()
        assert ended.returncode == 3, ended.stderr
        assert ended.stderr == (
            f"late cannot join: port {port} is in use by another program where {name} runs; end that program, "
            "then join again\n"
        )
        assert first.process is not None
        first.process.terminate()
        assert first.process.wait(30) == 0
        first.end()

    def test_the_head_goes_on(self, lone_head: Cluster) -> None:
        """Nobody who was refused is a node, nor can be sent away."""
        until(lambda: len(lone_head.status()["nodes"]) == 1, 20, lone_head.status)
        assert lone_head.status()["nodes"][0]["state"] == "up"
        with pytest.raises(UnknownNodeError, match="There is no joiner called 'late'; `raycolab status` lists them"):
            attach(lone_head.data_dir).remove("late")


@pytest.mark.ray
class TestASecondHead:
    """One head per data directory."""

    def test_it_is_refused(self, lone_head: Cluster) -> None:
        """With the process of the first, and the ways out."""
        ended = lone_head.raycolab("head", "--provider", "direct")
        assert lone_head.head is not None
        assert (ended.returncode, ended.stdout) == (3, "")
        assert ended.stderr.startswith(f"A head already runs with the data directory {lone_head.data_dir} (process ")
        assert ended.stderr.endswith(
            f"attach to it, end it with `raycolab down --data-dir {lone_head.data_dir}`, or give this one another "
            "--data-dir.\n"
        )


JOBS = ("models: {a: {x: {min: 0.0, max: 1.0}}}", "metric: {name: score, goal: maximize}", "jobs_per_pair: 12")


@pytest.mark.ray
class TestSubmit:
    """What `submit` says and ends with when trials do not complete."""

    @staticmethod
    def sweep(lone_head: Cluster, name: str, *cells: str) -> str:
        """A sweep file with a MAIN of its own."""
        made = lone_head.folder / name
        made.mkdir()
        write_main(made, *cells)
        return str(write_sweep(made, name, JOBS))

    def test_failed_trials_are_1_and_grouped_by_cause(self, lone_head: Cluster) -> None:
        """The table, what the cluster found, and each cause once; the results are saved all the same."""
        source = "def compute(x):\n    if x < 0.5:\n        raise ValueError(f'{x} is too small')\n    return x"
        sweep = self.sweep(lone_head, "failing", "import math", source)
        output = lone_head.folder / "out.json"
        ended = lone_head.raycolab("submit", sweep, "--output", str(output))
        assert ended.returncode == 1, ended.stderr
        assert "Traceback" not in ended.stderr
        failed = [row for row in json.loads(output.read_text()) if row["state"] == "FAILED"]
        assert 0 < len(failed) < 12
        cause = f"{len(failed)} trials, one cause: ValueError at cell 2 line 3: {failed[0]['config/x']} is too small"
        assert cause in ended.stdout.splitlines()
        assert f"saved: {output}" in ended.stderr.splitlines()
        assert ended.stdout.endswith(f"database: {lone_head.data_dir / 'raycolab.db'}\n")
        again = lone_head.raycolab("submit", sweep, "--json")
        assert again.returncode == 1
        status = json.loads(again.stdout)
        assert (status["failed"], status["complete"]) == (len(failed), 12 - len(failed))
        assert cause in again.stderr.splitlines()

    def test_a_model_that_always_fails_is_held(self, lone_head: Cluster) -> None:
        """Exit code 1 with trials left, and a sentence that says how to go on; stdout is JSON alone."""
        sweep = self.sweep(lone_head, "hopeless", "def compute(x):\n    raise KeyError('always')")
        ended = lone_head.raycolab("submit", sweep, "--json")
        assert ended.returncode == 1, ended.stderr
        status = json.loads(ended.stdout)
        assert (status["state"], status["failed"], status["pending"]) == ("HELD", 10, 2)
        assert status["sentence"].startswith(
            "2 trials are held: 10 trials of a in a row failed with KeyError: 'always'"
        )
        assert status["sentence"].endswith("raycolab resume hopeless")
        assert [line for line in ended.stderr.splitlines() if status["sentence"] in line] == [
            f"hopeless: {status['sentence']}"
        ]

    def test_a_cell_that_fails_in_setup_is_named(self, lone_head: Cluster) -> None:
        """By its number; no trial is blamed. A MAIN that was mended is taken by submitting again."""
        sweep = self.sweep(lone_head, "setup", "a = 1", "raise RuntimeError('no data here')", GOOD)
        ended = lone_head.raycolab("submit", sweep)
        assert ended.returncode == 1
        assert "Traceback" not in ended.stderr
        sentence = ended.stderr.splitlines()[-1]
        assert sentence.startswith("setup: MAIN's setup failed on every node, so no trial can run.")
        assert "On head: RuntimeError: no data here (cell 2)." in sentence
        assert lone_head.rows("setup")[0]["state"] == "PENDING"
        write_main(lone_head.folder / "setup", "a = 1", GOOD)
        assert lone_head.raycolab("submit", sweep).returncode == 0

    def test_ctrl_c_only_detaches(self, lone_head: Cluster) -> None:
        """130, said so, and the sweep goes on; a sweep at work cannot be deleted, and one that was cancelled is 1."""
        source = "import time\ndef compute(x):\n    time.sleep(60)\n    return x"
        sweep = self.sweep(lone_head, "slow", source)
        process = subprocess.Popen(
            [*RAYCOLAB, "submit", sweep, "--json", "--data-dir", str(lone_head.data_dir)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        assert "slow" in process.stderr.readline()  # it watches
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (130, "")
        assert "Traceback" not in err
        assert "Detached: the sweep 'slow' goes on." in err
        refused = lone_head.raycolab("delete", "slow")
        assert (refused.returncode, refused.stderr) == (
            2,
            "The sweep 'slow' is not at rest: run `raycolab cancel slow` first.\n",
        )
        assert lone_head.raycolab("cancel", "slow").returncode == 0
        ended = lone_head.raycolab("submit", sweep, "--json")
        assert (ended.returncode, json.loads(ended.stdout)["cancelled"]) == (1, 12)

    def test_no_wait_is_0_at_once(self, lone_head: Cluster) -> None:
        """The head has it; JSON says where its rows will be."""
        sweep = self.sweep(lone_head, "later", GOOD)
        ended = lone_head.raycolab("submit", sweep, "--no-wait", "--json")
        assert ended.returncode == 0
        assert json.loads(ended.stdout) == {"name": "later", "database": str(lone_head.data_dir / "raycolab.db")}
        assert ended.stderr == "The head has the sweep 'later': `raycolab status` shows how far it is.\n"
        until(lambda: all(row["state"] == "COMPLETE" for row in lone_head.rows("later")), 30, lone_head.status)
