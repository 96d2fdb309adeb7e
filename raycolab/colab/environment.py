"""Whether this is a Colab VM, which notebook of it this is, and giving the VM back."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raycolab.errors import ClusterError

__all__ = [
    "HEAD_HERE",
    "JOINER_HERE",
    "ONE_VM_PER_FILE",
    "OTHER_TAB",
    "has_kernel",
    "is_colab",
    "release_runtime",
    "same_notebook",
    "show_port",
    "this_notebook",
]

# What Colab's image sets for its kernel, and so for all that a kernel starts; a local runtime has none of them.
_COLAB_VARIABLES = ("COLAB_RELEASE_TAG", "COLAB_BACKEND_VERSION", "COLAB_GPU")
_SESSION_VARIABLE = "JPY_SESSION_NAME"  # jupyter_server's: the path of the notebook that a kernel was started for


def is_colab(environ: Mapping[str, str]) -> bool:
    """Whether this process runs on a Colab VM: google.colab can be imported and its kernel's environment is there."""
    if not any(name in environ for name in _COLAB_VARIABLES):
        return False
    try:
        return importlib.util.find_spec("google.colab") is not None
    except (ImportError, ValueError):
        return False


def has_kernel() -> bool:
    """Whether this process is a notebook's kernel, with a page to talk to."""
    return getattr(_shell(), "kernel", None) is not None


def this_notebook(environ: Mapping[str, str]) -> dict[str, str] | None:
    """What tells this kernel's notebook from others of the VM, for `same_notebook`; None where there is no kernel.

    The kernel's id stays when it is restarted, the notebook's path when the kernel is replaced by a new one.
    """
    if not has_kernel():
        return None
    file = getattr(getattr(_shell().kernel, "parent", None), "connection_file", "")
    return {"kernel": Path(str(file)).stem, "path": environ.get(_SESSION_VARIABLE, "")}


def same_notebook(one: Mapping[str, str] | None, other: Mapping[str, str] | None) -> bool:
    """Whether two of `this_notebook` mean the same one; a process that is no kernel counts as any."""
    if one is None or other is None:
        return True
    return any(one.get(key) and one.get(key) == other.get(key) for key in ("kernel", "path"))


ONE_VM_PER_FILE = (
    "This tab shares its machine with another one that is a joiner already, because Colab gives one VM per notebook"
    " file: choose File > Save a copy in Drive, and join from the copy. raycolab.leave() ends the joiner that runs"
    " here."
)
JOINER_HERE = (
    "This tab's machine is a joiner already, because Colab gives one VM per notebook file: open head.ipynb as a file of"
    " its own (File > Save a copy in Drive) and run it there. Or raycolab.leave() ends the joiner; then run this again."
)
HEAD_HERE = (
    "This tab's machine is the head already, which runs trials too, because Colab gives one VM per notebook file: open"
    " joiner.ipynb as a file of its own (File > Save a copy in Drive), and join from there."
)
OTHER_TAB = (
    "(If this is another tab, meant to be a joiner of its own: it shares its machine with the first. Choose File > Save"
    " a copy in Drive, and join from the copy.)"
)


def release_runtime() -> None:
    """Give the VM back to Colab, which ends this kernel and everything else on it; ClusterError when it stays."""
    runtime, errors = (importlib.import_module(f"google.colab.{name}") for name in ("runtime", "errors"))
    try:
        runtime.unassign()
    except errors.RuntimeManagementError as error:
        raise ClusterError(
            f"Colab did not take this VM back ({error}): end it by Runtime > Disconnect and delete runtime."
        ) from error


def show_port(port: int) -> None:
    """Show what is served at this port of the VM below the cell that runs."""
    importlib.import_module("google.colab.output").serve_kernel_port_as_iframe(port)


def _shell() -> Any:
    """IPython's shell in this process, or None; IPython is asked only where it was loaded already."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()
