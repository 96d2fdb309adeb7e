"""Which checks are made here, and in which order a person reads them."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Mapping
from functools import partial
from importlib import metadata

from raycolab import colab
from raycolab.cluster import read_address
from raycolab.colab.environment import has_kernel
from raycolab.diagnostics import colab_tab, directory, machine, ngrok, reach, software
from raycolab.diagnostics.check import Diagnosis, Finding, bad
from raycolab.diagnostics.examine import Looking, examine
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
) -> dict[str, Looking]:
    """The checks by name; what was typed is judged here, before anything is looked at.

    With an address they are those of a joiner; else a head's, which needs ngrok. Called on a kernel's main thread.
    """
    here = DataDir.chosen(data_dir, environ)
    checks: dict[str, Looking] = {
        "python": lambda: software.python(platform.python_version(), metadata.metadata("raycolab")["Requires-Python"]),
        "system": lambda: software.system(platform.system()),
        "packages": _packages,
        "loopback": machine.loopback,
        "ports": lambda: machine.ports(cpu_count(), busy_ports()),
        "namespaces": machine.sessions,
        "memory": lambda: machine.memory(machine.available_memory()),
        "shared memory": lambda: machine.shared_memory(machine.shared_memory_room(), machine.available_memory()),
        "open files": lambda: machine.files(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        "temporary folder": machine.run_folder,
        "data directory": partial(directory.writable, here),
        "running": partial(directory.running, here),
    }
    if address is None:
        checks |= _ngrok(environ)
    else:
        at = read_address(address)
        checks |= {"join address": partial(reach.entrance, at), "clock": partial(reach.clock, at)}
    if colab.is_colab(environ):
        checks |= {"drive": lambda: colab_tab.drive(colab.drive_folder()), "colab's rules": colab_tab.rules}
    return checks


def _ngrok(environ: Mapping[str, str]) -> dict[str, Looking]:
    """The token, and where there is one what it is for. Colab gives its secrets to a kernel's main thread alone."""
    try:
        token = colab.credentials("auto", (), environ).get(TOKEN_VARIABLE, "")
    except RaycolabError as error:
        return {"ngrok token": partial(bad, str(error))}
    on_colab = colab.is_colab(environ)
    checks: dict[str, Looking] = {
        "ngrok token": partial(ngrok.token, token, on_colab=on_colab, has_kernel=has_kernel())
    }
    if token:
        checks |= {
            "ngrok agent": partial(ngrok.agent, environ.get(AGENT_PATH_VARIABLE)),
            "ngrok service": ngrok.service,
        }
    return checks


def _packages() -> Finding:
    needed = software.requirements()
    loaded = software.loaded_versions(needed) if has_kernel() else {}
    return software.packages(needed, software.installed_version, loaded)
