"""What is said when a node's process does nothing for as long as it is waited for; the cures that are told work.

Minutes, so by hand; the four wait beside each other.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

import raycolab
from raycolab.errors import ClusterError
from raycolab.joining import Joiner, JoinerRecord
from raycolab.node.data_dir import DataDir
from tests.raycolab.scripted_head import scripted_head
from tests.raycolab.situations import text_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

# A node's own process hangs before its first line, as on a disk that does not answer.
HANGING = """
import sys, time
if sys.orig_argv[1:4] == ["-P", "-m", "raycolab.node.supervisor"]:
    time.sleep(1000)
"""
HOLDS_THE_LOCK = """
import sys, time
from raycolab.node.data_dir import DataDir
held = DataDir(sys.argv[1]).lock()
print(flush=True)
time.sleep(1000)
"""
IS_NOT_ENDED = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(flush=True)
time.sleep(1000)
"""


def started(stack: ExitStack, code: str, argument: Path) -> subprocess.Popen[str]:
    """A process that runs this code and has said so."""
    command = [sys.executable, "-c", code, str(argument)]
    process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True))
    stack.callback(process.kill)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def cured(sentence: str, process: subprocess.Popen[str]) -> bool:
    """Whether what a sentence has between its backticks, pasted, ends the process."""
    (line,) = re.findall("`(.*)`", sentence)
    subprocess.run(["bash", "-c", line], check=True)
    return process.wait(10) == -signal.SIGKILL


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The data directory of a head that hangs in its first line; no process is left."""
    text_in("site/sitecustomize.py", HANGING)(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    before = set(psutil.pids())
    yield tmp_path / "hanging"
    for process in psutil.process_iter(["environ"]):
        if process.pid not in before and (process.info["environ"] or {}).get("PYTHONPATH") == str(tmp_path / "site"):
            process.kill()


def test_who_waits_in_vain_is_told(hanging: Path, tmp_path: Path) -> None:
    """What was waited for and how long, and what to paste."""
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        silent = started(stack, HOLDS_THE_LOCK, tmp_path / "silent")
        lasting = started(stack, HOLDS_THE_LOCK, tmp_path / "lasting")
        stack.enter_context(scripted_head(tmp_path / "lasting"))
        joiner = started(stack, IS_NOT_ENDED, tmp_path / "run")
        (tmp_path / "joined").mkdir()
        places = {"run_dir": str(tmp_path / "run"), "events": str(tmp_path / "e"), "log": str(tmp_path / "log")}
        Joiner(DataDir(tmp_path / "joined"), JoinerRecord(joiner.pid, **places)).save()
        head = raycolab.attach(tmp_path / "lasting")
        starting: Future[Any] = pool.submit(raycolab.start_head, "direct", data_dir=hanging)
        another: Future[Any] = pool.submit(raycolab.start_head, "direct", data_dir=tmp_path / "silent")
        ending = pool.submit(head.shutdown)
        leaving = pool.submit(raycolab.leave, data_dir=tmp_path / "joined")
        told = {}
        for name, waiting in (("starting", starting), ("another", another), ("ending", ending), ("leaving", leaving)):
            error = waiting.exception(300)
            assert isinstance(error, ClusterError), (name, error)
            told[name] = str(error)
        assert told == {
            "starting": f"The head has not come up within 180 s: {hanging}/head.log says how far it is. Run this again"
            " to go on waiting for it.",
            "another": f"Another head holds the data directory {tmp_path}/silent and does not answer: `kill -9 $(cat"
            f" {tmp_path}/silent/lock)` ends it; or give this one another data_dir.",
            "ending": f"The head has not ended within 180 s: `kill -9 $(cat {tmp_path}/lasting/lock)` ends it.",
            "leaving": f"The joiner has not ended within 30 s: `kill -9 -{joiner.pid}` ends it, and all that it"
            f" started; {tmp_path}/log says how far it came.",
        }
        assert cured(told["another"], silent)
        assert cured(told["ending"], lasting)
        assert cured(told["leaving"], joiner)
