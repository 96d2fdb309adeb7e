"""The authtoken asked for on a real terminal."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import termios
from pathlib import Path

PROMPT = b"ngrok authtoken (from https://dashboard.ngrok.com/get-started/your-authtoken; nothing is shown):"


def read_until(terminal: int, part: bytes = b"") -> bytes:
    """What a program writes to its terminal, up to this or to its end."""
    said = b""
    while not part or part not in said:
        try:
            said += os.read(terminal, 4096)
        except OSError:  # Linux's end of a terminal whose last program has ended
            break
    return said


def test_raycolab_head_asks_for_the_token_on_a_terminal(tmp_path: Path) -> None:
    """Only where ngrok was asked for by name; no answer is told what is missing, exit code 2."""
    terminal, end = os.openpty()
    head = subprocess.Popen(
        [sys.executable, "-m", "raycolab", "head", "--provider", "ngrok", "--data-dir", str(tmp_path / "data")],
        env={name: value for name, value in os.environ.items() if name != "NGROK_AUTHTOKEN"},
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(end)
    try:
        assert PROMPT in read_until(terminal, PROMPT)
        os.write(terminal, b"\n")
        assert b"ngrok needs your authtoken" in read_until(terminal)
        assert head.wait(30) == 2
        assert not (tmp_path / "data").exists()
    finally:
        head.kill()
        head.wait()
        os.close(terminal)
