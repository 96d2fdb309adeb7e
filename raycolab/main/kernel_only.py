"""Calls that only a notebook's kernel can answer, google.colab's and `input()`, answered in a worker.

`drive.mount` succeeds where the node's own notebook has mounted Drive; `userdata.get` gives the secrets that trials
were given; everything else fails with a sentence that names the cell and the cure. Where google.colab can be imported,
its modules stay and only these calls are replaced, whenever MAIN imports them. Where it cannot, a MAIN that imports it
without asking first gets modules that hold nothing but the answers, and one that asks (`try: import google.colab`)
learns that it is missing. Nothing here imports google.colab.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import getpass
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from raycolab.colab.drive import is_drive_at
from raycolab.colab.environment import is_colab
from raycolab.main.source import syntax_tree
from raycolab.main.traceback import cell_number, is_whole_cell

__all__ = ["KernelOnly", "KernelOnlyError", "needs_colab"]

_COLAB = "google.colab"
_PACKAGES = ("google", _COLAB)
_USERDATA_ERRORS = ("SecretNotFoundError", "NotebookAccessError", "TimeoutException")
_MISSING = object()


class KernelOnlyError(RuntimeError):
    """MAIN called, in a worker, what only the kernel of an open notebook can do; the text has the cure."""


def needs_colab(sources: Iterable[str]) -> bool:
    """Whether these cells import google.colab without asking first whether it is there."""
    imported: list[str] = []
    for source in sources:
        with contextlib.suppress(SyntaxError):
            for statement in syntax_tree(source).body:
                match statement:
                    case ast.Import(names=names):
                        imported += [item.name for item in names]
                    case ast.ImportFrom(module=str(module), names=names):
                        imported += [f"{module}.{item.name}" for item in names]
    return any(f"{name}.".startswith(f"{_COLAB}.") for name in imported)


# --- the answers -----------------------------------------------------------------------------------------------------


def _cure() -> str:
    """What to change where the running code of MAIN stands: in a cell, or in a function that a cell defines."""
    frame = sys._getframe(1)
    while frame is not None and (number := cell_number(frame.f_code.co_filename)) is None:
        frame = frame.f_back  # type: ignore[assignment]  # None at the outermost
    if frame is None:
        return "start the cell with `# raycolab: head-only`."
    if is_whole_cell(frame.f_code.co_name):
        return f"start cell {number} with `# raycolab: head-only` if workers can do without it."
    return f"take it out of {frame.f_code.co_name} in cell {number}, which workers run."


def _mount(mountpoint: str, *args: Any, **options: Any) -> None:
    """`drive.mount`: done where Drive is mounted there."""
    if is_drive_at(Path(mountpoint).expanduser()):
        print(f"Drive is mounted at {mountpoint}.")  # noqa: T201 - MAIN's own output, as the real call has it
        return
    raise KernelOnlyError(
        f"Drive is not mounted at {mountpoint} on this machine, and only its notebook's own kernel can mount it: run"
        f" drive.mount({mountpoint!r}) in that tab before it joins; or {_cure()}"
    )


def _secret(key: str) -> str:
    """`userdata.get`: from the environment, where trials have the secrets that were passed on."""
    if key in os.environ:
        return os.environ[key]
    error: Exception = sys.modules[f"{_COLAB}.userdata"].SecretNotFoundError(key)
    error.args = (
        f"The secret {key!r} was not passed on to trials: name it where the head starts,"
        f" raycolab.start_head(secrets=[{key!r}]), or where this tab joins, raycolab.join(..., secrets=[{key!r}]); or"
        f" {_cure()}",
    )
    raise error


def _refusal(call: str, advice: str, original: Any) -> Callable[..., Any]:
    """A function that fails with a sentence, unless the VM has the credentials that it asks for."""

    def refuse(*args: Any, **options: Any) -> Any:
        if call.startswith(f"{_COLAB}.auth.") and original is not _MISSING:
            # Without a page the call may raise anything, and none of it would help anybody.
            with contextlib.suppress(Exception):
                return original(*args, **options)
        name = call.removeprefix("builtins.").removeprefix(f"{_COLAB}.")
        raise KernelOnlyError(f"{name}() needs an open notebook page, which a worker does not have: {_cure()} {advice}")

    return refuse


_ASK = "Give the value as a parameter of compute, or as a secret (raycolab.start_head(secrets=[...]))."
_BEFORE_JOINING = "Or run it in this tab's own notebook, before it joins."
_READ_ELSEWHERE = "Read the file from Drive, or download it with `!wget`, where every node finds it."
# What stands in for each call: a function, or what to do instead of a call that fails in a worker.
_ANSWERS: dict[str, Callable[..., Any] | str] = {
    "builtins.input": _ASK,
    "getpass.getpass": _ASK,
    "google.colab.auth.authenticate_service_account": _BEFORE_JOINING,
    "google.colab.auth.authenticate_user": _BEFORE_JOINING,
    "google.colab.drive.flush_and_unmount": "It would take Drive from every trial of this machine.",
    "google.colab.drive.mount": _mount,
    "google.colab.files.download": "Return what is to be kept from compute, or write it to Drive.",
    "google.colab.files.upload": _READ_ELSEWHERE,
    "google.colab.files.upload_file": _READ_ELSEWHERE,
    "google.colab.files.view": "Nobody is looking at a worker.",
    "google.colab.output.eval_js": "No page runs JavaScript for a worker.",
    "google.colab.runtime.unassign": "It would end this machine in the middle of the sweep.",
    "google.colab.userdata.get": _secret,
}
_MODULES = {call.rpartition(".")[0] for call in _ANSWERS} - {"builtins", "getpass"}


# --- their place -----------------------------------------------------------------------------------------------------


class KernelOnly(MetaPathFinder, Loader):
    """The answers, from `install` to `remove`; one at a time in a process.

    It finds google.colab's modules where they are and puts the answers into each once it is loaded. A module that
    cannot be found it makes itself, of nothing but answers, where google.colab is to be there all the same.
    """

    def __init__(self, *, stand_in: bool) -> None:
        self._stand_in = stand_in  # whether google.colab is to be there though it cannot be imported
        self._replaced: list[tuple[ModuleType, str, Any]] = []  # module, name, what it was
        self._made: list[str] = []  # modules that are ours alone

    def install(self) -> None:
        """Answer from now on."""
        sys.meta_path.insert(0, self)
        for module in (builtins, getpass, *(sys.modules[name] for name in _MODULES & sys.modules.keys())):
            self._answer(module)
        if is_colab(os.environ) and _COLAB not in sys.modules:
            self._show_colab()

    def remove(self) -> None:
        """Leave everything as it was."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for owner, name, was in reversed(self._replaced):
            if was is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, was)
        for name in self._made:
            sys.modules.pop(name, None)
            parent, _, child = name.rpartition(".")
            vars(sys.modules.get(parent, ModuleType(""))).pop(child, None)
        self._replaced, self._made = [], []

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in (*_PACKAGES, *_MODULES):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None and self._stand_in:
            self._made.append(name)
            return ModuleSpec(name, self, is_package=name in _PACKAGES)
        if name in _MODULES and spec is not None and spec.loader is not None:
            run, loader = spec.loader.exec_module, spec.loader

            def run_and_answer(module: ModuleType) -> None:
                run(module)
                self._answer(module)

            loader.exec_module = run_and_answer  # type: ignore[method-assign]  # this loader is this module's alone
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == f"{_COLAB}.userdata":
            vars(module).update({name: type(name, (Exception,), {}) for name in _USERDATA_ERRORS})
        self._answer(module)

    def _answer(self, module: ModuleType) -> None:
        """Put the answers into a module that has been loaded."""
        for call, answer in _ANSWERS.items():
            owner, _, name = call.rpartition(".")
            if owner == module.__name__:
                was = getattr(module, name, _MISSING)
                self._replaced.append((module, name, was))
                setattr(module, name, _refusal(call, answer, was) if isinstance(answer, str) else answer)

    def _show_colab(self) -> None:
        """Have google.colab among the loaded modules, where notebooks look for it, and load it at its first use."""
        spec = importlib.util.find_spec(_COLAB)
        if spec is None or spec.loader is None:
            return
        spec.loader = importlib.util.LazyLoader(spec.loader)
        module = importlib.util.module_from_spec(spec)
        sys.modules[_COLAB] = module
        spec.loader.exec_module(module)
        vars(sys.modules["google"])["colab"] = module
        self._made.append(_COLAB)
