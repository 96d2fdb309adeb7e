"""Real Ray in a simulated session: the ports it opens, how it starts and fails, and what it leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from raycolab.node.ray_command import ports_needed
from raycolab.sandbox.sessions import SimulatedSession, probe
from tunnel.nodes import PortBlock

capability = probe()
pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(capability.kind is None, reason=capability.reason or "sessions can be made"),
]

HEAD = PortBlock(20_000, ports_needed(2))
JOINER = PortBlock(20_100, ports_needed(1))

# Runs inside the session, as a supervisor would: `head` and `joiner` are RayProcesses ready to be started.
PRELUDE = """
import asyncio, json, os, subprocess, sys
from pathlib import Path
import psutil
from raycolab.node.ray_command import *
from raycolab.node.ray_process import *
from tunnel.nodes import PortBlock
run_dir = Path(sys.argv[1])
head_block, joiner_block = (PortBlock(*json.loads(word)) for word in sys.argv[2:])
run_dir.mkdir(mode=0o700)
environment = ray_environment("t" * 40, os.environ)
os.environ.update(environment)
head_ports, joiner_ports = RayPorts.of(head_block), RayPorts.of(joiner_block)
head = RayProcess(start_command(head_ports, node_ip="127.77.0.1", node_name="head", head_address=None, num_cpus=2,
    num_gpus=0, temp_dir=str(run_dir / "h")), environment, ports=head_ports, temp_dir=run_dir / "h")
joiner = RayProcess(start_command(joiner_ports, node_ip="127.77.0.2", node_name="joiner-1", num_cpus=1, num_gpus=0,
    head_address=f"127.77.0.1:{head_ports.gcs}", temp_dir=str(run_dir / "j")), environment, ports=joiner_ports,
    temp_dir=run_dir / "j")
def others():
    mine = {1, *(process.pid for process in [psutil.Process(), *psutil.Process().parents()])}
    alive = [p for p in psutil.process_iter(["cmdline", "name", "status"]) if p.info["status"] != psutil.STATUS_ZOMBIE]
    return sorted(" ".join((p.info["cmdline"] or [])[:3]) or p.info["name"] for p in alive if p.pid not in mine)
def say(**report):
    print(json.dumps(report), flush=True)
"""
PORTS = """
def listening():
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [row.split() for table in tables for row in table]
    return sorted({int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"})
def work():
    import ray
    ray.init(address=f"127.77.0.1:{head_ports.gcs}", _node_ip_address="127.77.0.1", log_to_driver=False)
    @ray.remote
    def leave_a_daemon():
        return subprocess.Popen(["setsid", "sleep", "1000"]).pid
    @ray.remote(num_cpus=0, scheduling_strategy="SPREAD")
    class Actor:
        def where(self):
            return ray.get_runtime_context().get_node_id()
    @ray.remote(scheduling_strategy="SPREAD")
    def shuffle(blob):
        return ray.get_runtime_context().get_node_id(), ray.put(blob + blob)
    actors = [Actor.remote() for _ in range(4)]
    nodes = set(ray.get([actor.where.remote() for actor in actors]))
    nodes |= {node for node, _ in ray.get([shuffle.remote(b"x" * 2_000_000) for _ in range(6)])}
    names = sorted(node["NodeName"] for node in ray.nodes() if node["Alive"])
    ray.get(leave_a_daemon.remote())
    say(listening=listening(), nodes=len(nodes), names=names)
    ray.shutdown()
async def main():
    say(before=listening())
    await head.start()
    say(head=listening())
    await joiner.start()
    await asyncio.to_thread(work)
    await joiner.stop(grace_s=0)  # killed, for it had no time to comply
    await head.stop()
    say(after=listening(), left=others(), files=sorted(path.name for path in run_dir.iterdir()),
        mode=oct(head.log.stat().st_mode & 0o777), secret="t" * 40 in head.log.read_text() + joiner.log.read_text())
asyncio.run(main())
"""
LEFTOVERS = """
def work():
    import ray
    ray.init(address=f"127.77.0.1:{head_ports.gcs}", _node_ip_address="127.77.0.1", log_to_driver=False)
    @ray.remote
    def leave_a_daemon():
        return subprocess.Popen(["setsid", "sleep", "1000"]).pid
    say(daemon=ray.get(leave_a_daemon.remote()))
    ray.shutdown()
async def main():
    await head.start()
    await asyncio.to_thread(work)
    ENDING
asyncio.run(main())
"""
TAKEN = """
import socket
async def main():
    with socket.create_server(("127.0.0.1", head_ports.object_manager)):
        try:
            await head.start()
        except Exception as error:
            say(kind=type(error).__name__, text=str(error), left=others(), files=len(list(run_dir.iterdir())))
asyncio.run(main())
"""
FAILING = """
async def main():
    deep = run_dir / ("d" * 100)
    process = RayProcess(start_command(head_ports, node_ip="127.77.0.1", node_name="head", head_address=None,
        num_cpus=1, num_gpus=0, temp_dir=str(deep)), environment, ports=head_ports, temp_dir=deep)
    try:
        await process.start()
    except Exception as error:
        say(kind=type(error).__name__, text=str(error), left=others(), temp=deep.exists(), log=process.log.exists())
asyncio.run(main())
"""
OTHER_PATCH = """
import ray
other, level = json.loads(os.environ["OTHER"]), "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL"
def node(name, **changed):
    temp = run_dir / name
    command = start_command(joiner_ports, node_ip="127.77.0.2", node_name=name, num_cpus=0, num_gpus=0,
        head_address=f"127.77.0.1:{head_ports.gcs}", temp_dir=str(temp))
    environment_there = {**environment, "PYTHONPATH": other["path"], **changed}
    return RayProcess([other["python"], *command[1:]], environment_there, ports=joiner_ports, temp_dir=temp)
def work():
    ray.init(address=f"127.77.0.1:{head_ports.gcs}", _node_ip_address="127.77.0.1", log_to_driver=False)
    @ray.remote(num_cpus=0, resources={"node:127.77.0.2": 0.1})
    def version():
        return list(sys.version_info[:3])
    @ray.remote
    def where():
        return ray.get_runtime_context().get_node_id()
    say(there=ray.get(version.remote()), here=list(sys.version_info[:3]),
        cpus={node["NodeName"]: node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]},
        used=len(set(ray.get([where.remote() for _ in range(8)]))))
    ray.shutdown()
async def main():
    await head.start()
    try:
        await node("strict", **{level: "patch"}).start()
    except Exception as error:
        say(refused=str(error))
    lenient = node("lenient")
    await lenient.start()
    await asyncio.to_thread(work)
    await lenient.stop()
    await head.stop()
asyncio.run(main())
"""
ANOTHER_PATCH = """
import collections, sys
fields = "major minor micro releaselevel serial"
sys.version_info = collections.namedtuple("version_info", fields)(*sys.version_info[:2], 99, "final", 0)
"""


@pytest.fixture
def session() -> Iterator[SimulatedSession]:
    """One session, which sees this checkout and the Python that runs the tests."""
    with SimulatedSession(kind=capability.kind) as made:
        yield made


def _argv(scenario: str) -> list[str]:
    blocks = [json.dumps([block.first, block.count]) for block in (HEAD, JOINER)]
    return [sys.executable, "-c", PRELUDE + scenario, "/tmp/rc", *blocks]


def _run(session: SimulatedSession, scenario: str, **environ: str) -> dict[str, object]:
    """Run a scenario in the session and merge what it said."""
    changed = [f"{name}={value}" for name, value in environ.items()]
    done = session.run(["env", *changed, *_argv(scenario)], timeout_s=200)
    assert done.returncode == 0, done.stderr
    said: dict[str, object] = {}
    for line in done.stdout.splitlines():
        said |= json.loads(line)
    return said


def test_every_port_lies_in_the_nodes_own_block(session: SimulatedSession) -> None:
    """The session's socket table shows no listening port outside the two blocks, while Ray works on two nodes.

    And nothing is left of Ray once it was stopped, nor of what a task left in a session of its own.
    """
    said = _run(session, PORTS)
    assert said["before"] == []
    head, both = said["head"], said["listening"]
    assert isinstance(head, list)
    assert isinstance(both, list)
    assert len(head) >= 3  # GCS, node manager, object manager; the agents listen somewhat later
    assert [port for port in head if port not in HEAD.ports] == []
    assert [port for port in both if port not in HEAD.ports and port not in JOINER.ports] == []
    assert sum(port in JOINER.ports for port in both) >= 3  # with the runtime environment agent, which has worked
    assert said["nodes"] == 2
    assert said["names"] == ["head", "joiner-1"]
    assert said["after"] == []
    assert said["left"] == []
    assert said["files"] == ["h.log", "j.log"]
    assert said["mode"] == "0o600"
    assert said["secret"] is False


@pytest.mark.slow
def test_nothing_is_left_of_a_killed_ray(session: SimulatedSession) -> None:
    """A daemon that a task left in a session of its own ends with it."""
    kill = "psutil.Process().children()[0].children()[0].kill(); say(code=await head.wait(), left=others())"
    said = _run(session, LEFTOVERS.replace("ENDING", kill))
    assert said["daemon"]
    assert said["left"] == []
    assert said["code"] == 137


def test_nothing_is_left_of_a_killed_supervisor(session: SimulatedSession) -> None:
    """SIGKILL of the process that started Ray ends Ray and what its tasks left."""
    scenario = LEFTOVERS.replace("ENDING", "os.kill(os.getpid(), 9)")
    done = session.run(_argv(scenario), timeout_s=120)
    assert done.returncode == -9, done.stderr
    watch = (
        "import psutil, time\n"
        "end = time.monotonic() + 20\n"
        "while len(left := [p for p in psutil.process_iter() if p.pid not in (1, psutil.Process().pid)]) > 0:\n"
        "    assert time.monotonic() < end, left\n"
        "    time.sleep(0.05)\n"
    )
    gone = session.run([sys.executable, "-c", watch])
    assert gone.returncode == 0, gone.stderr


def test_a_taken_port_is_named_at_once(session: SimulatedSession) -> None:
    """A port that somebody listens at is named before Ray is started."""
    said = _run(session, TAKEN)
    assert said["kind"] == "PortTakenError"
    assert str(said["text"]).startswith(f"Port {HEAD.first + 3} is in use by another program on this machine")
    assert said["left"] == []
    assert said["files"] == 0


def test_a_failing_start_tells_why(session: SimulatedSession) -> None:
    """Ray's own exception is the decisive line, the log stays to be read, and nothing else does."""
    said = _run(session, FAILING)
    assert said["kind"] == "ClusterError"
    assert "Ray did not start on this node" in str(said["text"])
    assert "AF_UNIX path length" in str(said["text"])
    assert said["left"] == []
    assert said["temp"] is False
    assert said["log"] is True


def _other_patch_release() -> str | None:
    """Another interpreter on this machine of this minor version, of another patch release."""
    name = f"python3.{sys.version_info.minor}"
    for folder in os.environ["PATH"].split(":"):
        found = shutil.which(name, path=folder)
        asked = found and subprocess.run(
            [found, "-c", "import sys; print(sys.version)"], capture_output=True, text=True
        )
        if asked and asked.stdout and asked.stdout.split()[0] != sys.version.split()[0]:
            return found
    return None


@pytest.fixture(scope="module")
def said_of_a_puller() -> dict[str, object]:
    """What a cluster says of a node of another patch release of Python that has no CPU to give.

    Where this machine has no second Python, the node makes up the version that Ray sees.
    """
    setup, path = "Path('/tmp/other').mkdir()\n", [folder for folder in sys.path if "site-packages" in folder]
    found, python = _other_patch_release(), sys.executable
    if found is None:
        setup += f"Path('/tmp/other/sitecustomize.py').write_text({ANOTHER_PATCH!r})\n"
        path.insert(0, "/tmp/other")
    else:
        setup += f"subprocess.run([{found!r}, '-m', 'venv', '--without-pip', '/tmp/other'], check=True)\n"
        python = "/tmp/other/bin/python"
    with SimulatedSession(kind=capability.kind) as made:
        return _run(made, setup + OTHER_PATCH, OTHER=json.dumps({"python": python, "path": ":".join(path)}))


def test_patch_releases_of_python_form_one_cluster(said_of_a_puller: dict[str, object]) -> None:
    """Ray itself refuses another patch release unless our variable is set; with it the node joins and works."""
    assert "Version mismatch: The cluster was started with" in str(said_of_a_puller["refused"])
    there, here = said_of_a_puller["there"], said_of_a_puller["here"]
    assert isinstance(there, list)
    assert isinstance(here, list)
    assert (there[:2], there != here) == (here[:2], True)


def test_a_node_without_cpus_joins_and_is_given_no_tasks(said_of_a_puller: dict[str, object]) -> None:
    """As for a tab that only pulls."""
    assert (said_of_a_puller["cpus"], said_of_a_puller["used"]) == ({"head": 2, "lenient": 0}, 1)
