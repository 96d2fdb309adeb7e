"""A Colab VM as a process sees it: the stand-in google.colab on its path, its environment, a page, perhaps a kernel.

What passes here passed with a stand-in that was written from the real package's source; it is not Colab.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import IPython
import pytest

__all__ = ["STAND_IN", "ColabVm", "colab_vm"]

STAND_IN = Path(__file__).with_name("stand_in")
ENVIRONMENT = {"COLAB_RELEASE_TAG": "release-colab_20260401-060000_RC00", "COLAB_GPU": ""}


@dataclass
class ColabVm:
    """What a test changes of the VM."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def environ(self) -> dict[str, str]:
        """What its kernel's environment has on top of a plain one."""
        names = {"STANDIN_COLAB_PAGE": "page.json", "STANDIN_COLAB_LOG": "log"}
        paths = {variable: str(self.folder / name) for variable, name in names.items()}
        return ENVIRONMENT | paths | {"TBE_RUNTIME_ADDR": "172.28.0.1:8011"}

    def page(self, **state: Any) -> None:
        """Open a page that answers so."""
        (self.folder / "page.json").write_text(json.dumps({"open": True, **state}))

    def secret(self, name: str, payload: str, access: bool = True) -> None:
        """Open a page with one secret."""
        self.page(secrets={name: {"payload": payload, "access": access}})

    def kernel(self, file: str = "kernel-1234.json", path: str = "/content/fileId=abc") -> None:
        """Let this process be a notebook's kernel."""
        kernel = SimpleNamespace(parent=SimpleNamespace(connection_file=f"/runtime/{file}"), comm_manager=object())
        self.monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=kernel))
        self.monkeypatch.setenv("JPY_SESSION_NAME", path)

    @property
    def log(self) -> list[str]:
        """What was asked of Colab."""
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def colab_vm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ColabVm]:
    """This process is one of a Colab VM, whose page is closed, and not its kernel."""
    folder = tmp_path / "vm"
    folder.mkdir()
    (folder / "page.json").write_text('{"open": false}')
    monkeypatch.syspath_prepend(str(STAND_IN))
    vm = ColabVm(folder, monkeypatch)
    for name, value in vm.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NGROK_AUTHTOKEN", raising=False)
    _forget()
    yield vm
    _forget()
    monkeypatch.undo()
    importlib.invalidate_caches()


def _forget() -> None:
    for name in [name for name in sys.modules if name == "google.colab" or name.startswith("google.colab.")]:
        del sys.modules[name]
    vars(sys.modules.get("google", SimpleNamespace())).pop("colab", None)
