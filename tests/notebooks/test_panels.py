"""Panels that outlive who kept them true, in real kernels: the cell that was stopped, the kernel that was restarted.

No Ray: a process stands in a joiner's place and a control socket in a head's, and a page is what its messages say. What
JupyterLab makes of them is `test_browser`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager

from raycolab.node import api
from raycolab.node.data_dir import DataDir, HeadRecord
from raycolab.node.rpc import Server
from tests.notebooks.kernels import Kernel

pytestmark = pytest.mark.timeout(120)

ADDRESS = "tunnel+unix:///tmp/hub#pin.SeCrEt"
JOINER = """
import json, pathlib, signal, sys
events = pathlib.Path(sys.argv[2])
def say(**event):
    with events.open("a") as file:
        file.write(json.dumps(event) + "\\n")
def end(*_):
    say(event="ended", text="It has left.")
    sys.exit()
signal.signal(signal.SIGTERM, end)
say(event="up", text="joiner-1 is up with 1 CPU")
print(flush=True)
signal.pause()
"""


@contextlib.contextmanager
def new_kernel(data_dir: Path) -> Iterator[Kernel]:
    """A kernel that uses this data directory."""
    manager = KernelManager()
    manager.start_kernel(
        env={**os.environ, "RAYCOLAB_DATA_DIR": str(data_dir)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    kernel = Kernel(manager)
    try:
        kernel.run("import raycolab")
        yield kernel
    finally:
        kernel.close()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the joiner and of the head."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def kernel(data_dir: Path) -> Iterator[Kernel]:
    """The kernel of a notebook's first hour."""
    with new_kernel(data_dir) as made:
        yield made


@pytest.fixture
def joiner(data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A joiner that is up."""
    run_dir, events = data_dir / "rc-1", data_dir / "joiner.events"
    command = [sys.executable, "-c", JOINER, str(run_dir), str(events)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        record = {"pid": process.pid, "run_dir": str(run_dir), "events": str(events), "log": "", "head": "unix:///hub"}
        (data_dir / "joiner.json").write_text(json.dumps(record))
        yield process
        process.kill()


def test_leave_ends_the_panel_of_a_cell_that_was_stopped(kernel: Kernel, joiner: subprocess.Popen[bytes]) -> None:
    """Nobody else would: the cell that showed it has ended, and its last word was that the machine is still there."""
    kernel.begin("raycolab.join('anything')")
    kernel.read_until("joiner-1 is up")
    kernel.interrupt()
    stopped = kernel.finish()
    assert "still part of the cluster" in stopped.display
    left = kernel.run("raycolab.leave()")
    assert (left.text, left.error) == ("This machine has left the cluster.\n", None)
    assert left.display_id == stopped.display_id != ""
    assert left.display.splitlines()[-1] == "It has left."
    assert "still part" not in left.display
    assert joiner.wait(10) == 0


@pytest.fixture
def head(data_dir: Path) -> Iterator[None]:
    """What answers as a head does, until it is asked to shut down."""
    listening = threading.Event()

    async def serve() -> None:
        over = asyncio.Event()

        async def answer(body: bytes, _: object) -> bytes:
            match api.decode(body, api.HeadRequest):
                case api.Facts():
                    return api.encode(api.HeadFacts(ADDRESS, "127.77.0.1:1", "t" * 43))
                case api.Status():
                    return api.encode({"nodes": [], "sweeps": []})
            over.set()
            return api.encode(None)

        server = Server(data_dir / "control", answer)
        await server.start()
        listening.set()
        await asyncio.wait_for(over.wait(), 100)
        await server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert listening.wait(10)
    DataDir(data_dir).save(HeadRecord(os.getpid(), str(data_dir / "control"), 0.0, ""))
    yield
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.usefixtures("head")
def test_a_new_kernel_masks_the_address_in_the_old_output(kernel: Kernel, data_dir: Path) -> None:
    """Though it has shown none itself. What a page cannot find any more is said: clear all outputs."""
    shown = kernel.run("raycolab.attach()")
    assert ADDRESS in shown.display
    with new_kernel(data_dir) as restarted:
        over = restarted.run("raycolab.attach().shutdown()")
    assert over.error is None
    assert over.display_id == shown.display_id != ""
    assert "This head has ended" in over.display
    assert "SeCrEt" not in over.display
    assert "clear all outputs" in over.text
