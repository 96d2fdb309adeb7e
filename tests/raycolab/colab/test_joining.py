"""`raycolab.join` and `leave` on one Colab VM: who may see the joiner that runs there, and who gets the VM back."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import raycolab
from raycolab.cluster import check_capacity
from raycolab.colab import this_notebook
from raycolab.errors import ClusterError, UsageError
from raycolab.node.data_dir import DataDir, HeadRecord
from tests.raycolab.colab.vm import ColabVm
from tunnel.address import JoinAddress

UP = {"event": "up", "text": "joiner-1 is up with 1 CPU"}
ENDED = {"event": "ended", "text": "This machine is no longer part of the cluster."}
GAVE_UP = {"event": "failed", "kind": "ClusterError", "error": "The hub cannot be reached.", "exit_code": 3}
# In a guard's place: ends once `join` shows it, which it writes into the record, or at SIGTERM.
JOINER = """
import pathlib, sys, time
print(flush=True)
record = pathlib.Path(sys.argv[2])
while not (record.exists() and "release_runtime" in record.read_text() and "lasting" not in record.read_text()):
    time.sleep(0.02)
"""


class Joiner:
    """A process in a joiner's place, what it has said, and its record as `join` left it."""

    def __init__(self, data_dir: Path, said: list[dict[str, object]], record: dict[str, object]) -> None:
        run_dir, events = data_dir / "rc-1", data_dir / "joiner.events"
        self.record = data_dir / "joiner.json"
        self.process = subprocess.Popen(
            [sys.executable, "-c", JOINER, str(run_dir), str(self.record)], stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()
        events.write_text("".join(json.dumps(event) + "\n" for event in said))
        places = {"run_dir": str(run_dir), "events": str(events), "log": str(data_dir / "log")}
        self.record.write_text(json.dumps({"pid": self.process.pid, **places, **record}))


Start = Callable[..., Joiner]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a joiner that says this, in the data directory that `join` uses; what else is given is in its record."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    monkeypatch.setenv("RAYCOLAB_DATA_DIR", str(data_dir))
    started: list[Joiner] = []

    def make(*said: dict[str, object], **record: object) -> Joiner:
        started.append(Joiner(data_dir, [UP, *said], record))
        return started[-1]

    yield make
    for joiner in started:
        joiner.process.kill()
        joiner.process.communicate()


def joined_from(vm: ColabVm) -> dict[str, object]:
    """The notebook that this process is the kernel of, as a record has it."""
    vm.kernel("kernel-1.json", "/content/fileId=joiner")
    return {"notebook": this_notebook(os.environ)}


def test_a_second_notebook_on_one_vm_is_told_to_save_a_copy(colab_vm: ColabVm, start: Start) -> None:
    """Colab gives one VM per notebook file: two joiners on it would share its CPUs."""
    start(**joined_from(colab_vm))
    colab_vm.kernel("kernel-2.json", "/content/fileId=another")
    with pytest.raises(UsageError, match="File > Save a copy in Drive, and join from the copy"):
        raycolab.join("tunnel+wss://h/T")


def test_the_same_notebook_sees_its_joiner_again(
    colab_vm: ColabVm, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also from a new kernel; a second tab of the file, which cannot be told from it, reads what it would need."""
    joiner = start(ENDED, **joined_from(colab_vm))
    colab_vm.kernel("kernel-2.json", "/content/fileId=joiner")
    raycolab.join("tunnel+wss://h/T")
    said = capsys.readouterr().out
    assert "This machine is a joiner already" in said
    assert "If this is another tab" in said
    assert UP["text"] in said
    assert json.loads(joiner.record.read_text())["notebook"]["kernel"] == "kernel-2"
    assert colab_vm.log == []


def test_a_head_on_a_joiners_vm_is_told_to_run_in_a_file_of_its_own(colab_vm: ColabVm, start: Start) -> None:
    """Nothing is started: both would share its CPUs. leave() frees it, as the sentence says."""
    joiner = start(lasting=True, **joined_from(colab_vm))
    with pytest.raises(UsageError, match=r"a joiner already.*Save a copy in Drive.*raycolab\.leave\(\)"):
        raycolab.start_head(provider="unix")
    assert not (joiner.record.parent / "head.log").exists()


def test_joining_on_the_heads_vm_is_told_the_same(
    colab_vm: ColabVm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A joiner's cell that was pasted into the head's notebook."""
    monkeypatch.setenv("RAYCOLAB_DATA_DIR", str(tmp_path / "data"))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "control"))
        listening.listen()
        DataDir(tmp_path / "data").save(HeadRecord(1, str(tmp_path / "control"), 0.0, ""))
        with pytest.raises(UsageError, match=r"is the head already.*Save a copy in Drive"):
            raycolab.join("tunnel+wss://h/T")
    assert colab_vm.log == []


def test_any_notebook_sees_the_joiner_of_a_plain_machine(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There tabs share a machine on purpose."""
    start(ENDED, notebook={"kernel": "kernel-1", "path": "/home/a.ipynb"})
    raycolab.join("tunnel+wss://h/T")
    said = capsys.readouterr().out
    assert "This machine is a joiner already" in said
    assert "another tab" not in said


def test_a_joiner_that_is_not_waited_for(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """`block=False` returns once this machine is a node, which it stays; for a notebook that goes on to pull."""
    joiner = start(lasting=True)
    raycolab.join("tunnel+wss://h/T", block=False)
    assert UP["text"] in capsys.readouterr().out
    assert joiner.process.poll() is None


@pytest.mark.parametrize(("cpus", "gpus", "given"), [(0, None, (0, 0)), (0, 1, (0, 1)), (2, 0, (2, 0))])
def test_a_node_that_only_pulls_gives_nothing(cpus: int, gpus: int | None, given: tuple[int, int]) -> None:
    """Its GPUs neither, unless they are asked for; a head has a CPU at least."""
    assert check_capacity(cpus, gpus, fewest=0) == given
    with pytest.raises(UsageError, match="num_cpus is 0: give a number from 1 to 256"):
        check_capacity(0, gpus)


@pytest.mark.parametrize(("last", "raised"), [(ENDED, None), (GAVE_UP, "The hub cannot be reached")])
def test_the_vm_is_given_back_when_the_joiner_is_over(
    colab_vm: ColabVm, start: Start, last: dict[str, object], raised: str | None
) -> None:
    """Once, after the last word was shown, or raised when the head is gone for good."""
    start(last, **joined_from(colab_vm))
    with pytest.raises(ClusterError, match=raised) if raised else contextlib.nullcontext():
        raycolab.join("tunnel+wss://h/T", release_runtime=True)
    assert colab_vm.log == ["unassign"]


def test_the_vm_stays_when_joining_failed(colab_vm: ColabVm, start: Start) -> None:
    """Somebody with a wrong address wants to try another, here."""
    joiner = start(**joined_from(colab_vm))
    Path(json.loads(joiner.record.read_text())["events"]).write_text(json.dumps(GAVE_UP) + "\n")
    with pytest.raises(ClusterError):
        raycolab.join("tunnel+wss://h/T", release_runtime=True)
    assert colab_vm.log == []


def test_leaving_gives_the_vm_back_where_joining_said_so(colab_vm: ColabVm, start: Start) -> None:
    """From another cell, after Stop."""
    start(lasting=True, **joined_from(colab_vm), release_runtime=True)
    raycolab.leave()
    assert colab_vm.log == ["unassign"]


def test_only_a_colab_vm_can_be_given_back(start: Start) -> None:
    """Checked before anything is reached."""
    with pytest.raises(UsageError, match="this machine is none: leave it out"):
        raycolab.join("tunnel+wss://h/T", release_runtime=True)


def test_a_secret_that_is_nowhere_is_told_before_joining(colab_vm: ColabVm, start: Start, tmp_path: Path) -> None:
    """Nothing was started, nothing written."""
    address = JoinAddress("ws://127.0.0.1:1", bytes(32), bytes(range(32))).text
    colab_vm.kernel()
    colab_vm.page()
    with pytest.raises(UsageError, match="nor in Colab's secrets"):
        raycolab.join(address, secrets=["HF_TOKEN"])
    assert list((tmp_path / "data").iterdir()) == []
