"""A head and five joiners as separate processes in isolated sessions: the sweep, plain Ray, sockets, secrets."""

from __future__ import annotations

import json
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from raycolab.node.ray_command import ports_needed
from raycolab.sandbox.sessions import PRIVATE_ADDRESS
from tests.integration.sessions import Cluster, Tab, all_slots_cell, cluster, until, write_main, write_sweep
from tunnel.address import JoinAddress

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

JOINERS = 5
EPHEMERAL = 32768  # the first port that the system gives out by itself
BLOCK = ports_needed(1)
SWEEP = (
    "models: {a: {x: {min: 0.0, max: 1.0}}, b: {x: {min: 0.0, max: 1.0}}}",
    "datasets: [one, two]",
    "jobs_per_pair: 15",
    "metric: {name: score, goal: maximize}",
)
MAIN = """
def compute(model, dataset, x):
    wait_for_all_slots()
    return {"score": x, "twice": 2 * x}
"""


@pytest.fixture(scope="module")
def six() -> Iterator[Cluster]:
    """A head and five joiners, all up."""
    with cluster() as made:
        made.start_head()
        for number in range(1, JOINERS + 1):
            made.start_joiner(f"tab-{number}")
            if number % 2 == 0:  # Ray gives a node 30 s to start, and these share their cores
                made.wait_up(number + 1)
        made.wait_up(JOINERS + 1)
        yield made


def tabs(six: Cluster) -> list[Tab]:
    """Every session, the head's first."""
    assert six.head is not None
    return [six.head, *six.joiners.values()]


def sockets(tab: Tab) -> set[tuple[str, int]]:
    """Address and port of every listening TCP socket of a session, from the kernel's own table."""
    script = (
        "import psutil, json; print(json.dumps([[c.laddr.ip, c.laddr.port] for c in psutil.net_connections('tcp')"
        " if c.status == psutil.CONN_LISTEN]))"
    )
    found = tab.run(sys.executable, "-c", script)
    return {(address, port) for address, port in json.loads(found.stdout)}


def test_every_session_has_the_same_private_address(six: Cluster) -> None:
    """No session could tell another's address from its own, as on Colab."""
    script = "import socket; print(socket.gethostbyname(socket.gethostname()))"
    assert {tab.run(sys.executable, "-c", script).stdout.strip() for tab in tabs(six)} == {PRIVATE_ADDRESS}


def test_nodes_are_named_in_order_of_joining(six: Cluster) -> None:
    """`status` lists head and joiners, each up with what it gives."""
    nodes = json.loads(six.raycolab("status", "--json").stdout)["nodes"]
    assert [node["name"] for node in nodes] == ["head", *(f"joiner-{number}" for number in range(1, JOINERS + 1))]
    assert {node["cpus"] for node in nodes} == {1}


def test_submit_runs_the_sweep_on_every_node(six: Cluster) -> None:
    """60 trials, all COMPLETE, on six nodes; the results are a file and a database."""
    write_main(six.folder, all_slots_cell(six.folder, 1 + JOINERS), MAIN)
    sweep = write_sweep(six.folder, "everywhere", SWEEP)
    output = six.folder / "out.csv"
    done = six.raycolab("submit", str(sweep), "--output", str(output), "--json")
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert (status["total"], status["complete"]) == (60, 60)
    rows = six.rows("everywhere")
    assert {row["node"] for row in rows} == {"head", *(f"joiner-{n}" for n in range(1, JOINERS + 1))}
    assert all(row["score"] == row["config/x"] and row["twice"] == 2 * row["config/x"] for row in rows)
    assert len(output.read_text().splitlines()) == 61


def test_a_plain_ray_task_per_node_from_a_notebook_kernel(six: Cluster) -> None:
    """In a kernel beside the head, `connect_ray` makes `@ray.remote` run on six distinct nodes."""
    code = """
import raycolab
raycolab.attach(DATA_DIR).connect_ray()
import ray, time
@ray.remote(num_cpus=1)
def where():
    time.sleep(2)
    return ray.get_runtime_context().get_node_id()
print(len(set(ray.get([where.remote() for _ in range(6)]))), "distinct nodes")
""".replace("DATA_DIR", repr(str(six.data_dir)))
    notebook = six.folder / "kernel.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(code)]), notebook)
    assert six.head is not None
    script = "import nbclient, nbformat, sys; nb = nbformat.read(sys.argv[1], 4); nbclient.execute(nb); "
    script += "print(nb.cells[0].outputs)"
    done = six.head.run(sys.executable, "-c", script, str(notebook))
    assert "6 distinct nodes" in done.stdout, done.stdout + done.stderr


def test_listeners_and_ray_keep_to_their_places(six: Cluster) -> None:
    """The tunnel listens on 127.77.0.0/16 alone; what Ray opens lies inside its node's block."""
    blocks: list[set[int]] = []
    for tab in tabs(six):
        joined = re.search(r"joined as joiner-(\d)", tab.said())
        number = 1 + int(joined.group(1) if joined else 0)
        own = f"127.77.0.{number}"
        found = {(address, port) for address, port in sockets(tab) if port < EPHEMERAL}  # not the kernel's of a test
        relays = {(address, port) for address, port in found if address.startswith("127.77.0.") and address != own}
        ray = found - relays
        assert {address for address, _ in ray} <= {"0.0.0.0", "::", own}
        assert {int(address.rpartition(".")[2]) for address, _ in relays} == set(range(1, 7)) - {number}
        counts = Counter(address for address, _ in relays)
        assert set(counts.values()) == {BLOCK}, (number, counts)
        blocks.append({port for _, port in ray})
    for number, mine in enumerate(blocks):
        assert max(mine) - min(mine) < BLOCK
        assert not any(mine & other for other in blocks[number + 1 :])


def test_no_secret_is_in_an_argv_a_log_or_an_open_file(six: Cluster) -> None:
    """After a run joined by @FILE neither the address's secret nor Ray's token is where others could read it."""
    address = six.address_file.read_text().strip()
    token = address.rpartition("#")[2]
    ray_token = json.loads((six.data_dir / "identity.json").read_text())["ray_token"]
    parsed = JoinAddress.parse(address)
    needles = [token, ray_token, parsed.secret.hex(), token[43:86]]
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert any("raycolab.node.supervisor" in command for command in commands)
    assert not [command for command in commands for needle in needles if needle in command]
    told = six.folder / "head.log"  # the head's stdout, where a person reads the address
    for path in six.folder.rglob("*"):
        if not path.is_file() or path == told:
            continue
        text = path.read_bytes().decode("latin-1")
        if any(needle in text for needle in needles):
            private = any(not stat.S_IMODE(folder.stat().st_mode) & 0o077 for folder in path.parents)
            assert private or not stat.S_IMODE(path.stat().st_mode) & 0o077, f"{path} can be read by others"
            assert path.suffix not in (".log", ".out", ".err"), f"{path} is a log with a secret in it"


@pytest.mark.parametrize(("victim", "name", "code"), [("supervisor", "tab-5", 128 + 9), ("guard", "tab-4", -9)])
def test_nothing_is_left_after_a_kill(six: Cluster, victim: str, name: str, code: int) -> None:
    """SIGKILL of a joiner's supervisor, or of the guard around it, leaves no process, socket or directory."""
    tab = six.joiners[name]
    supervisor, guard = tab.supervisor(), tab.guard()
    run_dir = supervisor.cmdline()[4]
    (supervisor if victim == "supervisor" else guard).kill()
    assert tab.process is not None
    assert tab.process.wait(30) == code
    until(lambda: not tab.processes(), 30, lambda: f"{tab.processes()} are left")
    assert sockets(tab) == set()
    if victim == "supervisor":
        assert not Path(run_dir).exists()


def test_down_ends_every_process(six: Cluster) -> None:
    """`raycolab down` ends head and joiners with exit code 0 and leaves the database."""
    assert six.raycolab("down").returncode == 0
    for tab in tabs(six):
        if tab.name not in ("tab-4", "tab-5"):
            assert tab.process is not None
            assert tab.process.wait(30) == 0, tab.said()
        assert tab.processes() == []
    assert Path(six.data_dir / "raycolab.db").exists()
