"""`python -m tunnel`: what it prints, what it takes, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunnel.__main__ import main
from tunnel.address import JoinAddress

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 20


class Program:
    """A hub or an agent that runs, and the events it tells."""

    def __init__(self, *words: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tunnel", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **environment},
        )

    def told(self, event: str) -> dict[str, Any]:
        """Wait for an event of this name."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said: dict[str, Any] = json.loads(line)
            if said["event"] == event:
                return said
        raise AssertionError(f"it ended without {event}: {self.process.communicate()[1]}")

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        """Send a signal; the exit code, and what was still written to each stream."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str, str]:
        """The exit code, and what was still written to each stream."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, err


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    """Programs put here are ended with the test."""
    running: list[Program] = []
    yield running
    for program in running:
        if program.process.poll() is None:
            program.process.kill()
            program.process.communicate()


def test_a_hub_and_an_agent_live_and_end_in_order(tmp_path: Path, programs: list[Program]) -> None:
    """One JSON line per event; SIGTERM is a goodbye, SIGINT at the hub ends everybody; all exit with 0."""
    hub = Program("hub", "--listen", str(tmp_path / "hub.sock"), "--ports", "16")
    programs.append(hub)
    began = hub.told("hub")
    assert (began["node"], began["address"], len(began["ports"])) == (1, "127.77.0.1", 16)
    address = JoinAddress.parse(began["join_address"])
    assert address.unix_path == str(tmp_path / "hub.sock")

    one = Program("agent", address.text, "--name", "one")
    programs.append(one)
    joined = one.told("joined")
    assert (joined["name"], joined["address"], len(joined["ports"])) == ("one", "127.77.0.2", 8)
    assert hub.told("ready") == {**joined, "event": "ready"}

    file = tmp_path / "address"
    file.write_text(address.text + "\n")
    two = Program("agent", f"@{file}")
    three = Program("agent", TUNNEL_ADDRESS=address.text)
    programs += [two, three]
    for program in (two, three):
        program.told("ready")

    code, out, err = one.end(signal.SIGTERM)
    assert (code, err) == (0, "")
    assert json.loads(out.splitlines()[-1]) == {"event": "left", "reason": "it left"}
    assert hub.told("left") == {"event": "left", "name": "one", "reason": "it left"}

    code, _, err = hub.end(signal.SIGINT)
    assert (code, err) == (0, "")
    for program in (two, three):
        code, out, err = program.ended()
        assert (code, err) == (0, "")
        assert json.loads(out.splitlines()[-1]) == {"event": "left", "reason": "the hub was stopped"}
    assert not (tmp_path / "hub.sock").exists()


def test_a_wrong_secret_exits_with_3(tmp_path: Path, programs: list[Program]) -> None:
    """One sentence on stderr, and no secret in it."""
    hub = Program("hub", "--listen", str(tmp_path / "hub.sock"))
    programs.append(hub)
    address = JoinAddress.parse(hub.told("hub")["join_address"])
    wrong = JoinAddress(address.url, address.pin, bytes(32))
    code, out, err = Program("agent", wrong.text).ended()
    assert (code, out) == (3, "")
    assert err == "The secret in this join address is not the head's. Ask the head for its current join address.\n"


def test_an_identity_file_keeps_the_address(tmp_path: Path, programs: list[Program]) -> None:
    """The same file, the same join address; only its owner can read it, and --url says what agents dial."""
    file = tmp_path / "identity"
    told = []
    for _ in range(2):
        hub = Program(
            *("hub", "--listen", str(tmp_path / "hub.sock"), "--identity", str(file), "--url", "https://example.test")
        )
        programs.append(hub)
        told.append(hub.told("hub")["join_address"])
        assert hub.end(signal.SIGTERM)[0] == 0
    assert told[0] == told[1]
    assert JoinAddress.parse(told[0]).url == "wss://example.test"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def complaint(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """The exit code of a command line that is refused, and its one sentence."""
    code = main(words)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return code, err.strip()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["agent"], "The join address is empty."),
        (["agent", "nonsense"], "There is no join address in this text"),
        (
            ["agent", "@/nowhere"],
            "The file with the join address, /nowhere, cannot be read: No such file or directory. Name the file that",
        ),
        (
            ["agent", "@/proc/self/exe"],
            "The file with the join address, /proc/self/exe, cannot be read: it is not text. Name the file that holds",
        ),
        (["hub", "--listen", "8000:x"], "--listen takes HOST:PORT or the path of a unix socket"),
        (["hub", "--listen", "127.0.0.1:70000"], "--listen takes HOST:PORT"),
        (["hub", "--listen", "127.0.0.1:0", "--url", "gopher://x"], "'gopher://x' cannot be the hub's address"),
        (["hub", "--listen", "127.0.0.1:0", "--identity", "/proc/x"], "The identity cannot be kept in /proc/x: "),
        (
            ["hub", "--listen", "127.0.0.1:0", "--identity", "/proc/version"],
            "The hub's identity is damaged: it holds no secret. Delete /proc/version, and give the agents the new",
        ),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_is_of_no_use_exits_with_2(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence on stderr, nothing on stdout, and nothing was reached."""
    monkeypatch.delenv("TUNNEL_ADDRESS", raising=False)
    code, said = complaint(capsys, *words)
    assert code == 2
    assert said.startswith(sentence)


def test_where_nobody_can_listen_exits_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A port in use, a folder that is missing, an address of another machine."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, said = complaint(capsys, "hub", "--listen", f"127.0.0.1:{port}")
        assert (code, said[:30]) == (3, f"Port {port} of 127.0.0.1 is in use"[:30])
    code, said = complaint(capsys, "hub", "--listen", f"{tmp_path}/missing/hub.sock")
    assert code == 3
    assert said.startswith(f"This machine cannot listen at {tmp_path}/missing/hub.sock: ")
    code, said = complaint(capsys, "hub", "--listen", "192.0.2.1:9000")
    assert code == 3
    assert said.startswith("This machine cannot listen at 192.0.2.1:9000: ")
