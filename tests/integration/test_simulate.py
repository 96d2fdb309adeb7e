"""Simulated sessions, made for real: what they share, what they do not, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raycolab.sandbox.sessions import (
    PRIVATE_ADDRESS,
    Kind,
    SimulatedSession,
    probe,
)

KINDS: tuple[Kind, ...] = ("root", "user") if os.geteuid() == 0 else ("user",)
refused = probe().kind is None
needs_sessions = pytest.mark.skipif(refused, reason=probe().reason or "sessions can be made")

SERVE = """
import socket, sys
servers = [socket.create_server(("0.0.0.0", 23456))]
unix = socket.socket(socket.AF_UNIX)
unix.bind(sys.argv[1])
unix.listen()
print("listening", flush=True)
while True:
    unix.accept()[0].sendall(b"hello")
"""
DIAL = """
import socket, sys
for address in ("127.0.0.1", "127.77.0.1", "172.28.0.12"):
    try:
        socket.create_connection((address, 23456), 5)
        print(address, "reached")
    except ConnectionRefusedError:
        print(address, "refused")
try:
    socket.create_connection(("192.0.2.1", 443), 5)
except OSError as error:
    print(error.strerror)
unix = socket.socket(socket.AF_UNIX)
unix.connect(sys.argv[1])
print(unix.recv(5).decode())
"""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Both ways to make a session, where this machine has both."""
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory below /tmp for both sessions; short, for sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="rc-", dir="/tmp") as path:
        yield Path(path)


def _python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code), *words]


def _until_ended(pid: int) -> None:
    """Wait until a process is gone or a zombie of somebody else's; fail after 10 s."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} is still there")


def _spawn(session: SimulatedSession, argv: list[str]) -> subprocess.Popen[bytes]:
    """Start a command in a session, whose output can be read."""
    return subprocess.Popen(session.command(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def _outside(session: SimulatedSession) -> list[int]:
    """List the processes of a session as numbered outside."""
    namespace = os.readlink(f"/proc/{session.first_process}/ns/pid")
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if os.readlink(entry / "ns/pid") == namespace:
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended in between
    return found


@needs_sessions
def test_two_sessions_meet_only_at_a_shared_socket(kind: Kind, shared: Path) -> None:
    """Neither loopback, nor the private address both have, nor the world is reached; the shared socket is."""
    socket_path = str(shared / "hub.sock")
    with SimulatedSession(shared=[shared], kind=kind) as one, SimulatedSession(shared=[shared], kind=kind) as two:
        server = _spawn(one, _python(SERVE, socket_path))
        assert server.stdout is not None
        assert server.stdout.readline() == b"listening\n"
        here = one.run(_python(DIAL, socket_path))
        assert here.stdout.split("\n")[:3] == [
            f"{address} reached" for address in ("127.0.0.1", "127.77.0.1", PRIVATE_ADDRESS)
        ]
        there = two.run(_python(DIAL, socket_path))
        assert there.stdout.split("\n") == [
            "127.0.0.1 refused",
            "127.77.0.1 refused",
            f"{PRIVATE_ADDRESS} refused",
            "Network is unreachable",
            "hello",
            "",
        ]
        server.stdout.close()
    server.wait(10)


@needs_sessions
def test_each_session_has_its_own_places(kind: Kind, shared: Path) -> None:
    """Processes, host name, /tmp and /dev/shm differ; the shared directory is the same, at its own path."""
    (shared / "note").write_text("seen")
    with SimulatedSession(shared=[shared], kind=kind) as one, SimulatedSession(kind=kind) as two:
        for place in ("/tmp/mine", "/dev/shm/mine"):
            assert one.run(["touch", place]).returncode == 0
            assert two.run(["test", "-e", place]).returncode == 1
            assert not Path(place).exists()
        assert one.run(["cat", str(shared / "note")]).stdout == "seen"
        assert two.run(["test", "-e", str(shared)]).returncode == 1
        one.run(["sh", "-c", f"echo written > {shared}/back"])
        assert (shared / "back").read_text() == "written\n"
        names = {session.run(["hostname"]).stdout.strip() for session in (one, two)}
        assert names == {one.hostname, two.hostname}
        assert len(names) == 2
        resolve = _python("import socket; print(socket.gethostbyname(socket.gethostname()))")
        assert one.run(resolve).stdout.strip() == PRIVATE_ADDRESS
        count = _python("import psutil; print(psutil.pids() == [1, psutil.Process().pid], psutil.Process().pid)")
        assert one.run(count).stdout.startswith("True")


@needs_sessions
def test_its_name_resolves_whatever_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits alone, as one name in 300 would be, are an address to the resolver."""
    monkeypatch.setattr("secrets.token_hex", lambda size: "1" * 2 * size)
    with SimulatedSession(kind=KINDS[0]) as session:
        found = session.run(_python("import socket; print(socket.gethostbyname(socket.gethostname()))"))
    assert found.stdout.strip() == PRIVATE_ADDRESS


@needs_sessions
def test_a_session_has_no_rights_over_its_network(kind: Kind) -> None:
    """As on Colab a process is root without NET_ADMIN and SYS_ADMIN."""
    with SimulatedSession(kind=kind) as session:
        told = session.run(["sh", "-c", "id -u; grep CapEff /proc/self/status"]).stdout.split()
        assert told[0] == "0"
        assert not int(told[2], 16) & (1 << 12 | 1 << 21)


@needs_sessions
def test_commands_end_as_they_would_outside(kind: Kind, tmp_path: Path) -> None:
    """Exit codes, signals, standard streams, environment and directory are the command's own."""
    with SimulatedSession(kind=kind) as session:
        assert session.run(["sh", "-c", "exit 7"]).returncode == 7
        assert session.run(["sh", "-c", "kill -9 $$"]).returncode == -signal.SIGKILL
        assert session.run(["/no/such/command"]).returncode == 127
        both = session.run(["sh", "-c", "echo out; echo error >&2"])
        assert (both.stdout, both.stderr) == ("out\n", "error\n")
        assert session.run(["printenv", "A", "TMPDIR"], env={**os.environ, "A": "b"}).stdout == "b\n/tmp\n"
        assert session.run(["pwd"], cwd=Path("/usr")).stdout == "/usr\n"
        piped = subprocess.run(session.command(["cat"]), input=b"through", capture_output=True, check=True)
        assert piped.stdout == b"through"


@needs_sessions
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_reaches_the_command(kind: Kind, number: signal.Signals) -> None:
    """What ends the process outside ends the command inside, SIGKILL included, and nothing of it stays."""
    with SimulatedSession(kind=kind) as session:
        process = _spawn(session, ["sh", "-c", "echo up; exec sleep 1000"])
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(number)
        assert process.wait(10) == -number
        assert process.stdout.read() == b""  # the command held the other end
        process.stdout.close()
        for pid in _outside(session):
            if pid != session.first_process:
                _until_ended(pid)


@needs_sessions
def test_end_leaves_no_process(kind: Kind) -> None:
    """Ending a session kills what runs in it, daemons that ignore every signal included."""
    daemon = "trap '' TERM INT HUP; echo up; sleep 1000 & setsid sleep 1000 & wait"
    with SimulatedSession(kind=kind) as session:
        process = _spawn(session, ["sh", "-c", daemon])
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        inside = _outside(session)
        assert len(inside) >= 2
        session.end()
        assert process.wait(10) == -signal.SIGKILL
        assert not any(Path(f"/proc/{pid}").exists() for pid in inside)
        process.stdout.close()
        session.end()  # a second time is fine


@needs_sessions
def test_a_session_ends_with_its_maker(kind: Kind) -> None:
    """SIGKILL of the process that made a session leaves nothing of the session."""
    code = f"""
    import signal, subprocess
    from raycolab.sandbox.sessions import SimulatedSession
    session = SimulatedSession(kind={kind!r})
    session.start()
    command = subprocess.Popen(session.command(["sleep", "1000"]))
    print(session.first_process, flush=True)
    signal.pause()
    """
    with subprocess.Popen(_python(code), stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        first = int(maker.stdout.readline())
        maker.kill()
        assert maker.stdout.read() == ""  # the command inside held the other end
        _until_ended(first)


@needs_sessions
def test_orphans_inside_are_reaped(kind: Kind) -> None:
    """The session's first process reaps what has lost its parent, as an init does."""
    with SimulatedSession(kind=kind) as session:
        session.run(["sh", "-c", "(sh -c 'exit 0' &) ; (sleep 0.1 &)"])
        deadline = time.monotonic() + 10
        while len(_outside(session)) > 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert _outside(session) == [session.first_process]


def test_refusal_is_told_and_never_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """With RAYCOLAB_NO_NAMESPACES set the probe says so, for the sake of testing that path."""
    monkeypatch.setenv("RAYCOLAB_NO_NAMESPACES", "1")
    capability = probe()
    assert capability.kind is None
    assert "RAYCOLAB_NO_NAMESPACES" in capability.reason


@pytest.mark.skipif(refused or os.geteuid() != 0, reason="needs root to give up root's rights")
def test_a_real_refusal_names_what_refused_and_the_cure() -> None:
    """Where the system forbids namespaces the error says which step failed and what allows it."""
    code = """
    from raycolab.sandbox.sessions import NamespacesRefusedError, SimulatedSession
    try:
        SimulatedSession(kind="root").start()
    except NamespacesRefusedError as error:
        print(error)
    """
    with SimulatedSession(kind="root") as session:  # in a session there is no SYS_ADMIN
        told = session.run(_python(code)).stdout
    assert "making namespaces: Operation not permitted" in told
    assert "To allow them" in told


def test_only_a_directory_is_shared(shared: Path) -> None:
    """A missing directory, a file, and /tmp itself are refused before anything is made."""
    (shared / "file").touch()
    for path in (shared / "missing", shared / "file", Path("/tmp")):
        with pytest.raises(ValueError, match=str(path)):
            SimulatedSession(shared=[path])


def test_a_session_that_is_not_running_runs_nothing() -> None:
    """A command needs a session that was started and has not ended."""
    with pytest.raises(RuntimeError, match="not running"):
        SimulatedSession().command(["true"])
