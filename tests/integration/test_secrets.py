"""Secrets of two Colab tabs on real Ray: each trial has its head's and its joiner's, and nothing else in reach has any.

Colab here is the stand-in google.colab of `tests/raycolab/colab`; both nodes run side by side on this machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

import raycolab
from tests.integration.sessions import all_slots_cell, words_of, write_main
from tests.raycolab.colab.vm import STAND_IN, ColabVm, colab_vm

__all__ = ["colab_vm"]
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(200)]

HEADS = {"OF_HEAD": "head-7f3a9c5e", "OF_BOTH": "both-by-head-51d0b2"}
JOINERS = {"OF_JOINER": "joiner-c04e8d11", "OF_BOTH": "both-by-joiner-9ab3f6"}
MAIN = """
import hashlib
from google.colab import userdata

def digest(name):
    try:
        return hashlib.sha256(userdata.get(name).encode()).hexdigest()
    except userdata.SecretNotFoundError:
        return ""

def compute(model, dataset, x):
    wait_for_all_slots()
    return {"score": x, **{name: digest(name) for name in ("OF_HEAD", "OF_JOINER", "OF_BOTH")}}
"""


def page(vm: ColabVm, secrets: dict[str, str]) -> None:
    """Let the page of the tab that this process plays now have these secrets."""
    vm.page(secrets={name: {"payload": value, "access": True} for name, value in secrets.items()})


@dataclass
class Ran:
    """What was found in a cluster of two tabs, while it ran."""

    rows: list[Any]
    argv: str
    holding: list[Path]  # files with a secret in them


@pytest.fixture
def ran(colab_vm: ColabVm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ran]:
    """A head that passes on two secrets, a joiner that passes on two, and a sweep on both."""
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))  # workers are of the same VM image
    colab_vm.kernel()
    page(colab_vm, HEADS)
    head = raycolab.start_head("direct", num_cpus=1, data_dir=tmp_path / "head", secrets=[*HEADS])
    page(colab_vm, JOINERS)
    options: dict[str, Any] = {"num_cpus": 1, "data_dir": tmp_path / "joiner", "secrets": [*JOINERS]}
    joining = threading.Thread(target=raycolab.join, args=[head.join_address], kwargs=options)
    joining.start()
    try:
        assert head.wait_for_joiners(1, timeout=60) == ["joiner-1"]
        (colab_vm.folder / "page.json").unlink()
        sweep = raycolab.declare(
            "secrets",
            main=write_main(tmp_path, all_slots_cell(tmp_path, 2), MAIN),
            models={"m": {"x": raycolab.uniform(0, 1)}},
            jobs_per_pair=12,
            metric="score",
            data_dir=tmp_path / "head",
        )
        rows = sweep.run().rows
        record = json.loads((tmp_path / "joiner" / "joiner.json").read_text())
        control = json.loads((tmp_path / "head" / "head.json").read_text())["control"]
        folders = [tmp_path, Path(record["run_dir"]), Path(control).parent]
        yield Ran(rows, "\n".join(" ".join(words_of(each)) for each in psutil.process_iter()), holding(folders))
    finally:
        head.shutdown()
        joining.join(30)
    assert not joining.is_alive()


def holding(folders: list[Path]) -> list[Path]:
    """The files under these folders that hold a secret."""
    values = [value.encode() for value in (*HEADS.values(), *JOINERS.values())]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if any(value in path.read_bytes() for value in values)]


def test_trials_have_the_secrets_of_the_head_and_of_their_own_tab(ran: Ran) -> None:
    """The head's on every node, a joiner's on its own node alone, where it goes before the head's of that name."""
    assert {row.node for row in ran.rows} == {"head", "joiner-1"}
    for row in ran.rows:
        values = HEADS | (JOINERS if row.node == "joiner-1" else {})
        expected = {name: hashlib.sha256(value.encode()).hexdigest() for name, value in values.items()}
        assert {"OF_JOINER": "", **expected} == {name: row.metrics[name] for name in {**HEADS, **JOINERS}}
    values = {*HEADS.values(), *JOINERS.values()}
    assert [value for value in values if value in ran.argv] == []
    assert ran.holding == []
    assert values & set(os.environ.values()) == set()
