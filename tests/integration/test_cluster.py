"""A head and joiners as separate processes in isolated sessions: the sweep, plain Ray, sockets, secrets."""

from __future__ import annotations

import json
import re
import stat
import sys
from collections import Counter
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from raycolab.node.ray_command import ports_needed
from raycolab.sandbox.sessions import PRIVATE_ADDRESS
from tests.integration.sessions import Cluster, Tab, all_slots_cell, until, write_main, write_sweep
from tunnel.address import JoinAddress

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

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


def every(tabs: Cluster) -> list[Tab]:
    """Every session, the head's first."""
    assert tabs.head is not None
    return [tabs.head, *tabs.joiners.values()]


def names(tabs: Cluster) -> list[str]:
    """Of every node, the head's first."""
    return ["head", *(f"joiner-{number}" for number in range(1, len(tabs.joiners) + 1))]


def sockets(tab: Tab) -> set[tuple[str, int]]:
    """Address and port of every listening TCP socket of a session, from the kernel's own table."""
    script = (
        "import psutil, json; print(json.dumps([[c.laddr.ip, c.laddr.port] for c in psutil.net_connections('tcp')"
        " if c.status == psutil.CONN_LISTEN]))"
    )
    found = tab.run(sys.executable, "-c", script)
    return {(address, port) for address, port in json.loads(found.stdout)}


def test_every_session_has_the_same_private_address(tabs: Cluster) -> None:
    """No session could tell another's address from its own, as on Colab."""
    script = "import socket; print(socket.gethostbyname(socket.gethostname()))"
    assert {tab.run(sys.executable, "-c", script).stdout.strip() for tab in every(tabs)} == {PRIVATE_ADDRESS}


def test_nodes_are_named_in_order_of_joining(tabs: Cluster) -> None:
    """`status` lists head and joiners, each up with what it gives."""
    nodes = json.loads(tabs.raycolab("status", "--json").stdout)["nodes"]
    assert [node["name"] for node in nodes] == names(tabs)
    assert {node["cpus"] for node in nodes} == {1}


def test_submit_runs_the_sweep_on_every_node(tabs: Cluster) -> None:
    """All COMPLETE, on every node; the results are a file and a database."""
    write_main(tabs.folder, all_slots_cell(tabs.folder, len(every(tabs))), MAIN)
    sweep = write_sweep(tabs.folder, "shared", SWEEP)
    output = tabs.folder / "out.csv"
    done = tabs.raycolab("submit", str(sweep), "--output", str(output), "--json")
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert (status["total"], status["complete"]) == (60, 60)
    rows = tabs.rows("shared")
    assert {row["node"] for row in rows} == set(names(tabs))
    assert all(row["score"] == row["config/x"] and row["twice"] == 2 * row["config/x"] for row in rows)
    assert len(output.read_text().splitlines()) == 61


def test_a_plain_ray_task_per_node_from_a_notebook_kernel(tabs: Cluster) -> None:
    """In a kernel beside the head, `connect_ray` makes `@ray.remote` run on every node."""
    code = """
import raycolab
raycolab.attach(DATA_DIR).connect_ray()
import ray, time
@ray.remote(num_cpus=1)
def where():
    time.sleep(2)
    return ray.get_runtime_context().get_node_id()
print(len(set(ray.get([where.remote() for _ in range(NODES)]))), "distinct nodes")
""".replace("DATA_DIR", repr(str(tabs.data_dir))).replace("NODES", str(len(every(tabs))))
    notebook = tabs.folder / "kernel.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(code)]), notebook)
    assert tabs.head is not None
    script = "import nbclient, nbformat, sys; nb = nbformat.read(sys.argv[1], 4); nbclient.execute(nb); "
    script += "print(nb.cells[0].outputs)"
    done = tabs.head.run(sys.executable, "-c", script, str(notebook))
    assert f"{len(every(tabs))} distinct nodes" in done.stdout, done.stdout + done.stderr


def test_listeners_and_ray_keep_to_their_places(tabs: Cluster) -> None:
    """The tunnel listens on 127.77.0.0/16 alone; what Ray opens lies inside its node's block."""
    blocks: list[set[int]] = []
    for tab in every(tabs):
        joined = re.search(r"joined as joiner-(\d)", tab.said())
        number = 1 + int(joined.group(1) if joined else 0)
        own = f"127.77.0.{number}"
        found = {(address, port) for address, port in sockets(tab) if port < EPHEMERAL}  # not the kernel's of a test
        relays = {(address, port) for address, port in found if address.startswith("127.77.0.") and address != own}
        ray = found - relays
        assert {address for address, _ in ray} <= {"0.0.0.0", "::", own}
        assert {int(address.rpartition(".")[2]) for address, _ in relays} == set(range(1, len(every(tabs)) + 1)) - {
            number
        }
        counts = Counter(address for address, _ in relays)
        assert set(counts.values()) == {BLOCK}, (number, counts)
        blocks.append({port for _, port in ray})
    for number, mine in enumerate(blocks):
        assert max(mine) - min(mine) < BLOCK
        assert not any(mine & other for other in blocks[number + 1 :])


def test_no_secret_is_in_an_argv_a_log_or_an_open_file(tabs: Cluster) -> None:
    """After a run joined by @FILE neither the address's secret nor Ray's token is where others could read it."""
    address = tabs.address_file.read_text().strip()
    token = address.rpartition("#")[2]
    ray_token = json.loads((tabs.data_dir / "identity.json").read_text())["ray_token"]
    parsed = JoinAddress.parse(address)
    needles = [token, ray_token, parsed.secret.hex(), token[43:86]]
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert any("raycolab.node.supervisor" in command for command in commands)
    assert not [command for command in commands for needle in needles if needle in command]
    told = tabs.folder / "head.log"  # the head's stdout, where a person reads the address
    for path in tabs.folder.rglob("*"):
        if not path.is_file() or path == told:
            continue
        text = path.read_bytes().decode("latin-1")
        if any(needle in text for needle in needles):
            private = any(not stat.S_IMODE(folder.stat().st_mode) & 0o077 for folder in path.parents)
            assert private or not stat.S_IMODE(path.stat().st_mode) & 0o077, f"{path} can be read by others"
            assert path.suffix not in (".log", ".out", ".err"), f"{path} is a log with a secret in it"


@pytest.mark.parametrize(
    ("victim", "name", "code"),
    [("supervisor", "tab-2", 128 + 9), pytest.param("guard", "tab-1", -9, marks=pytest.mark.slow)],
)
def test_nothing_is_left_after_a_kill(tabs: Cluster, victim: str, name: str, code: int) -> None:
    """SIGKILL of a joiner's supervisor, or of the guard around it, leaves no process, socket or directory."""
    tab = tabs.joiners[name]
    supervisor, guard = tab.supervisor(), tab.guard()
    run_dir = supervisor.cmdline()[4]
    (supervisor if victim == "supervisor" else guard).kill()
    assert tab.process is not None
    assert tab.process.wait(30) == code
    until(lambda: not tab.processes(), 30, lambda: f"{tab.processes()} are left")
    assert sockets(tab) == set()
    if victim == "supervisor":
        assert not Path(run_dir).exists()


def test_down_ends_every_process(tabs: Cluster) -> None:
    """`raycolab down` ends head and joiners with exit code 0, and leaves the database."""
    up = [tab.process for tab in every(tabs) if tab.process is not None and tab.process.poll() is None]
    assert len(up) >= 2
    assert tabs.raycolab("down").returncode == 0
    assert [process.wait(30) for process in up] == [0] * len(up)
    assert [tab.processes() for tab in every(tabs)] == [[]] * len(every(tabs))
    assert Path(tabs.data_dir / "raycolab.db").exists()
