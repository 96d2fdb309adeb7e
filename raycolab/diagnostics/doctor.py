"""Which checks are made here, and in which order a person reads them."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from functools import partial

from raycolab import colab
from raycolab.cluster import read_address
from raycolab.diagnostics import machine, network
from raycolab.diagnostics.check import Diagnosis, Finding, Look, bad, examine
from raycolab.errors import RaycolabError
from raycolab.node.data_dir import DataDir
from raycolab.node.launch import cpu_count
from raycolab.providers import AGENT_PATH_VARIABLE, TOKEN_VARIABLE
from tunnel.machine import busy_ports

__all__ = ["doctor", "prepare"]


def doctor(address: str | None = None, *, data_dir: str | os.PathLike[str] | None = None) -> Diagnosis:
    """What would fail later on this machine, and the cures; with a join address, whether a joiner would be let in.

    Nothing is started, joined or changed; it takes 8 s at most. Print the answer, or look at `ok`, `checks` and
    `to_json()`. Raises UsageError for a damaged address.
    """
    return examine(prepare(address, data_dir, os.environ))


def prepare(
    address: str | None, data_dir: str | os.PathLike[str] | None, environ: Mapping[str, str]
) -> dict[str, Look]:
    """The checks by name; what was typed is judged here, before anything is looked at.

    With an address they are those of a joiner; else a head's, which needs ngrok. Called on a kernel's main thread, to
    which alone Colab gives its secrets.
    """
    chosen = DataDir.chosen(data_dir, environ)
    checks: dict[str, Look] = {
        "packages": _packages,
        "ports": lambda: machine.ports(cpu_count(), busy_ports()),
        "memory": lambda: machine.memory(machine.available_memory(), machine.shared_memory_room()),
        "open files": lambda: machine.open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        "temporary folder": machine.temporary_folder,
        "data directory": partial(machine.data_directory, chosen),
    }
    if address is None:
        checks["ngrok"] = _ngrok(environ)
    else:
        checks["join address"] = partial(network.join_address, read_address(address))
    if colab.is_colab(environ):
        checks["drive"] = lambda: machine.drive(colab.drive_folder())
    return checks


def _packages() -> Finding:
    needed = machine.requirements()
    loaded = machine.loaded_versions(needed) if colab.has_kernel() else {}
    return machine.packages(needed, machine.installed_version, loaded)


def _ngrok(environ: Mapping[str, str]) -> Look:
    try:
        token = colab.credentials("auto", (), environ).get(TOKEN_VARIABLE, "")
    except RaycolabError as error:
        return partial(bad, str(error))
    return partial(
        network.ngrok,
        token,
        environ.get(AGENT_PATH_VARIABLE),
        on_colab=colab.is_colab(environ),
        has_kernel=colab.has_kernel(),
    )
