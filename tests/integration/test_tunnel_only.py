"""examples/tunnel_only.py as a person runs it: an OpenSSH server and its clients across two closed networks."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from raycolab.sandbox.sessions import probe
from tests.programs import needs

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "tunnel_only.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tunnel_only", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = _load()


@pytest.mark.skipif(probe().kind is None, reason=probe().reason or "sessions can be made")
@pytest.mark.timeout(120)
def test_ssh_and_scp_reach_a_server_in_another_session(tmp_path: Path) -> None:
    """It ends with its result line and 0, and leaves the person's own SSH files alone."""
    for program in ("sshd", "ssh", "scp", "ssh-keygen"):
        needs(program)
    home = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, cwd=ROOT, env=home, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert re.fullmatch(
        r"tunnel_only: a command ran and 8,000,000 bytes came back whole in \d+\.\d s",
        lines[-1],
    )
    assert any("hostname    says 'there'" in line for line in lines)
    assert len({line.split()[-1] for line in lines if "SHA-256" in line}) == 1
    assert "tunnel+" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_it_says_what_is_missing() -> None:
    """Without OpenSSH: one sentence with the line that installs it."""
    with pytest.raises(example.ExampleError) as caught:
        example.find_programs("/nowhere")
    assert str(caught.value) == (
        "sshd and ssh and scp and ssh-keygen not found; "
        "install with: sudo apt-get install openssh-client openssh-server"
    )
