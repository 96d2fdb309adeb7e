"""Plain Ray on the cluster: what drivers, tasks and a sweep beside them do in sessions that share no network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raycolab.node.data_dir import DataDir
from tests.integration.sessions import RAYCOLAB, Cluster, Tab, cluster, until, write_main, write_sweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]

TABS = ("tab-1", "tab-2")
# What may have happened in a kernel before it connects.
BEFORE = {
    "nothing": "",
    "ray": "import ray",
    "ray, after raycolab": "import raycolab, ray",
    "pool": "import ray.util.multiprocessing",
    "joblib": "import ray.util.joblib",
    "the core": "import ray._raylet",
    "numpy, then ray": "import numpy, ray",
    "attach, then ray": "import raycolab, sys; raycolab.attach(sys.argv[1]); import ray",
}
CONNECT = """
import sys
BEFORE
import raycolab
raycolab.attach(sys.argv[1]).connect_ray()
import ray
from ray._raylet import Config
where = ray.remote(lambda: ray.util.get_node_ip_address())
there = ray.get(where.options(resources={"disk": 1}).remote())
print(there, Config.health_check_timeout_ms(), Config.grpc_client_keepalive_timeout_ms(), flush=True)
"""
KERNEL = """
import os, subprocess, sys, time
import raycolab
raycolab.attach(sys.argv[1]).connect_ray(runtime_env={"working_dir": "."}, namespace="mine", log_to_driver=True)
import ray
@ray.remote(resources={"disk": 1})
def far():
    import beside
    print("a task of the kernel prints")
    return f"{beside.WORD} on {ray.util.get_node_ip_address()}"
class Name:
    pass
kept = ray.remote(Name).options(name="me", num_cpus=0).remote()
said = ray.get(far.remote())
script = subprocess.Popen([sys.executable, "train.py"])
names = {each["namespace"] for each in ray.util.list_named_actors(all_namespaces=True) if each["name"] == "me"}
print(f"kernel: {len(ray.nodes())} nodes, {said}, alone in {' '.join(names)}", flush=True)
assert script.wait() == 0
while not os.path.exists("seen"):
    time.sleep(0.05)
"""
TRAIN = """
import os, time
import ray
ray.init(runtime_env={"working_dir": "."})
@ray.remote(resources={"disk": 1})
def far():
    import beside
    print("a task of the script prints")
    return f"{beside.WORD} on {ray.util.get_node_ip_address()}"
print(f"script: {len(ray.nodes())} nodes, {ray.get(far.remote())}", flush=True)
while not os.path.exists("seen"):
    time.sleep(0.05)
"""
DRIVER = """
import ray
ray.init(log_to_driver=False)
where = ray.remote(lambda: ray.util.get_node_ip_address())
far = [where.options(resources={"disk": 1}), where.options(label_selector={"zone": "far"})]
print(ray.util.get_node_ip_address(), *ray.get([each.remote() for each in far]), flush=True)
@ray.remote(num_cpus=0, resources={"disk": 1})
class Server:
    def listen(self):
        import os, socket
        first, last = map(int, os.environ["RAYCOLAB_PORTS"].split("-"))
        for port in range(last, first, -1):
            try:
                self.socket = socket.create_server((ray.util.get_node_ip_address(), port))
            except OSError:  # a worker of Ray's has it
                continue
            return self.socket.getsockname()
    def greet(self):
        self.socket.accept()[0].sendall(b"greeted")
server = Server.remote()
place = ray.get(server.listen.remote())
greeting = server.greet.remote()
import socket
print(socket.create_connection(tuple(place)).recv(7).decode(), flush=True)
"""
HOLDER = """
import pathlib, sys, time
import raycolab
raycolab.attach(sys.argv[1]).connect_ray()
import ray
marks = pathlib.Path(sys.argv[2])
def wait_for(name):
    while not (marks / name).exists():
        time.sleep(0.05)
hold = ray.remote(lambda: (marks.joinpath(str(time.time_ns())).touch(), wait_for("release"))[0])
held = [hold.remote() for _ in ray.nodes()]
while len(list(marks.iterdir())) < len(held):
    time.sleep(0.05)
(marks / "held").touch()
ray.get(held)
wait_for("again")
print(ray.get(ray.remote(lambda: "a task ran beside the sweep").remote()), flush=True)
"""
# What people bring: unchanged, and each must say what it says on a machine alone.
EXAMPLES = {
    "ray.tune.examples.async_hyperband_example": "Best hyperparameters found",
    "ray.tune.examples.tune_basic_example": "Best hyperparameters found",
}
PROGRAMS = """
import joblib, ray
from ray.util.joblib import register_ray
from ray.util.multiprocessing import Pool
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC
ray.init(log_to_driver=False)
with Pool(3) as pool:
    assert pool.map(abs, range(-50, 50)) == [abs(x) for x in range(-50, 50)]
print("pool agrees")
search = GridSearchCV(SVC(), {"C": [0.1, 1, 10], "gamma": [0.01, 0.1, 1]}, cv=4)
x, y = load_iris(return_X_y=True)
local = search.fit(x, y).cv_results_["mean_test_score"].tolist()
register_ray()
with joblib.parallel_backend("ray"):
    assert search.fit(x, y).cv_results_["mean_test_score"].tolist() == local
print("joblib agrees")
rows = ray.data.range(10_000, override_num_blocks=12).map(lambda row: {"id": row["id"] * 2})
rows = rows.filter(lambda row: row["id"] % 3 == 0)
assert rows.sum("id") == sum(each * 2 for each in range(10_000) if each * 2 % 3 == 0)
print("data agrees", flush=True)
"""


def python(
    tabs: Cluster, tab: Tab, name: str, script: str, *arguments: str, cwd: Path | None = None
) -> tuple[subprocess.Popen[bytes], Path]:
    """A program in a session, and what it says."""
    log = tabs.folder / f"{name}.said"
    with log.open("wb") as output:
        command = tab.command("env", "-C", str(cwd or tabs.folder), sys.executable, "-P", "-c", script, *arguments)
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output), log


def ended(program: tuple[subprocess.Popen[bytes], Path]) -> str:
    """What a program said until its end, which must be a good one."""
    process, log = program
    assert process.wait(200) == 0, log.read_text()
    return log.read_text()


def head_of(tabs: Cluster) -> Tab:
    """The head's session."""
    assert tabs.head is not None
    return tabs.head


def far_of(tabs: Cluster) -> str:
    """The address of the node with the disk."""
    joined = DataDir(tabs.folder / "tab-2").read_joined()
    assert joined is not None
    return joined.address


def test_import_ray_before_connect_ray_breaks_nothing(tabs: Cluster) -> None:
    """In eight orders: each is a driver at once, and has the time limits that an outage needs."""
    drivers = [
        python(tabs, head_of(tabs), f"order-{number}", CONNECT.replace("BEFORE", before), str(tabs.data_dir))
        for number, before in enumerate(BEFORE.values())
    ]
    for driver in drivers:
        assert ended(driver).splitlines()[-1] == f"{far_of(tabs)} 150000 180000"


def test_two_drivers_at_once_find_their_module_and_show_what_tasks_print(tabs: Cluster) -> None:
    """A kernel and the script that it starts, which has only `ray.init()`: no private Ray, and no CPU counted twice."""
    project = tabs.folder / "project"
    project.mkdir()
    (project / "beside.py").write_text("WORD = 'found'")
    (project / "train.py").write_text(TRAIN)
    far, nodes = far_of(tabs), 1 + len(tabs.joiners)
    process, log = kernel = python(tabs, head_of(tabs), "kernel", KERNEL, str(tabs.data_dir), cwd=project)

    def is_shown() -> bool:
        lines = [line for line in log.read_text().splitlines() if f"ip={far}" in line]
        return all(any(f"a task of the {who} prints" in line for line in lines) for who in ("kernel", "script"))

    until(lambda: process.poll() is not None or is_shown(), 100, log.read_text)
    (project / "seen").touch()
    said = ended(kernel)
    assert {f"script: {nodes} nodes, found on {far}", f"kernel: {nodes} nodes, found on {far}, alone in mine"} <= set(
        said.splitlines()
    ), said
    assert "stays on their nodes" not in said


def test_a_shell_in_a_joined_tab_is_told_what_a_driver_needs(tabs: Cluster) -> None:
    """By a file of its owner alone; labels and resources choose the node, and a server in it has a port for others."""
    tab, own = tabs.joiners["tab-1"], tabs.folder / "tab-1"
    told = tab.run(*RAYCOLAB, "env", "--data-dir", str(own))
    assert (told.returncode, told.stdout) == (0, f". {own}/ray.env\n"), told.stderr
    assert (own / "ray.env").stat().st_mode & 0o777 == 0o600
    done = tab.run("sh", "-c", f'{told.stdout} exec "$0" -P -c "$1"', sys.executable, DRIVER)
    assert done.returncode == 0, done.stderr
    joined = DataDir(own).read_joined()
    assert joined is not None
    assert done.stdout.splitlines()[-2:] == [f"{joined.address} {far_of(tabs)} {far_of(tabs)}", "greeted"]


def test_a_sweep_and_other_ray_work_share_the_cpus(tabs: Cluster) -> None:
    """Who holds what is said; a task that waits while the sweep has every CPU gets one between two trials."""
    write_main(tabs.folder, "import time\ndef compute(x):\n    time.sleep(0.05)\n    return x")
    lines = ["parameters: {x: {min: 0.0, max: 1.0}}", "jobs_per_pair: 20000", "metric: {name: x, goal: maximize}"]
    file = write_sweep(tabs.folder, "beside", lines)
    marks = tabs.folder / "held"
    marks.mkdir()
    holder = python(tabs, head_of(tabs), "holder", HOLDER, str(tabs.data_dir), str(marks))
    until(lambda: (marks / "held").exists(), 100, holder[1].read_text)
    assert tabs.raycolab("submit", str(file), "--no-wait").returncode == 0

    def sweep() -> dict[str, Any]:
        found: dict[str, Any] = next(each for each in tabs.status()["sweeps"] if each["name"] == "beside")
        return found

    names = sorted(node["name"] for node in tabs.status()["nodes"])
    said = (
        f"other Ray work has the CPUs on {', '.join(names)} for which {len(names)} slots of this sweep would start;"
        " connected is `"
    )
    until(lambda: (sweep()["sentence"] or "").startswith(said), 60, tabs.status)
    (marks / "release").touch()
    until(lambda: len(sweep()["done_on"]) == len(names), 100, tabs.status)
    until(lambda: sweep()["sentence"] is None, 60, tabs.status)
    (marks / "again").touch()
    assert "a task ran beside the sweep" in ended(holder)
    assert sweep()["state"] == "RUNNING"
    assert tabs.raycolab("cancel", "beside").returncode == 0


@pytest.fixture
def at_home() -> Iterator[Cluster]:
    """A head and two joiners whose sessions have a home of their own each, as machines have."""
    with cluster() as made:
        homes = {name: made.folder / f"home-{name}" for name in ("head", *TABS)}
        for home in homes.values():
            home.mkdir()
        made.env["HOME"] = str(homes["head"])
        made.start_head()
        for name in TABS:
            made.joiners[name] = tab = Tab(made.folder, name)
            tab.start("join", f"@{made.address_file}", "--num-cpus", "1", env={"HOME": str(homes[name])})
        made.wait_up(3)
        yield made


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_public_programs_run_unchanged_by_hand_off_of_the_address(at_home: Cluster) -> None:
    """Tune's own examples, Data, Pool and joblib, from a shell: what they find is what a machine alone finds."""
    pytest.importorskip(
        "ray.tune", exc_type=ImportError, reason="needs fsspec and pydantic, which Tune and Data import"
    )
    told = at_home.raycolab("env").stdout
    folder = at_home.folder / "work"
    folder.mkdir()

    def run(*words: str) -> str:
        home = f"HOME={at_home.folder}/home-head"
        done = head_of(at_home).run(
            *("env", "-C", str(folder), home, "sh", "-c", f'{told} exec "$@"', "sh", sys.executable, *words),
            timeout_s=400,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout

    for module, says in EXAMPLES.items():
        assert says in run("-m", module, *(["--smoke-test"] if module.endswith("basic_example") else []))
    assert run("-c", PROGRAMS).splitlines() == ["pool agrees", "joblib agrees", "data agrees"]
