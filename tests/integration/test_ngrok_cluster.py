"""A whole cluster behind the real pyngrok and the stand-in agent, on one machine; the agent dies, another comes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.integration.sessions import RAYCOLAB, until, words_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]

AGENT = Path(__file__).with_name("ngrok_agent.py")
TOKEN = "2aStandIn0Token0That0No0Log0May0Show_7xyz"


@pytest.mark.slow
def test_joiners_come_through_ngrok_and_survive_its_agent(tmp_path: Path) -> None:
    """With a token in the environment `auto` means ngrok; when the agent is killed another one takes its place."""
    agent = tmp_path / "agent"
    agent.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(AGENT))} "$@"\n')
    agent.chmod(0o755)
    env = {**os.environ, "NGROK_AUTHTOKEN": TOKEN, "PYNGROK_NGROK_PATH": str(agent)}
    address, data = tmp_path / "address", str(tmp_path / "data")
    log = (tmp_path / "log").open("wb")
    head = subprocess.Popen(
        [*RAYCOLAB, "head", "--num-cpus", "1", "--join-address-file", str(address), "--data-dir", data],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    joiner = None
    try:
        until(lambda: address.exists() or head.poll() is not None, 90, lambda: "no address")
        assert address.read_text().startswith("tunnel+ws://127.0.0.1:"), (tmp_path / "log").read_text()
        joiner = subprocess.Popen(
            [*RAYCOLAB, "join", f"@{address}", "--num-cpus", "1", "--data-dir", data],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        until(lambda: states(data) == ["up", "up"], 60, lambda: (tmp_path / "log").read_text())
        first = agents(head)
        for process in first:
            process.kill()
        until(lambda: states(data) == ["up", "away"], 30, lambda: "the outage is not seen")
        until(lambda: states(data) == ["up", "up"], 60, lambda: (tmp_path / "log").read_text())
        assert set(agents(head)).isdisjoint(first)
        done = subprocess.run([*RAYCOLAB, "down", "--data-dir", data], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert (head.wait(30), joiner.wait(30)) == (0, 0), (tmp_path / "log").read_text()
        assert agents(psutil.Process()) == []
    finally:
        for process in (joiner, head):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(30)
        log.close()


def states(data: str) -> list[str]:
    """Each node's state."""
    done = subprocess.run(
        [*RAYCOLAB, "status", "--json", "--data-dir", data], capture_output=True, text=True, timeout=60
    )
    return [node["state"] for node in json.loads(done.stdout)["nodes"]] if done.returncode == 0 else []


def agents(of: psutil.Process | subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The stand-in agents below a process."""
    return [each for each in psutil.Process(of.pid).children(recursive=True) if str(AGENT) in words_of(each)]
