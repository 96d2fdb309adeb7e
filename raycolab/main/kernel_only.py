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
import functools
import getpass
import importlib.util
import os
import re
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

__all__ = ["KernelOnly", "KernelOnlyError", "needs_colab"]

_COLAB = "google.colab"
_READ_ELSEWHERE = "Read the file from Drive, or download it with `!wget`, where every node finds it."
_BEFORE_JOINING = "Or run it in this tab's own notebook, before it joins."
# The calls that always fail in a worker, by module, with what to do instead.
_REFUSED: dict[str, dict[str, str]] = {
    "drive": {"flush_and_unmount": "It would take Drive from every trial of this machine."},
    "files": {
        "upload": _READ_ELSEWHERE,
        "upload_file": _READ_ELSEWHERE,
        "download": "Return what is to be kept from compute, or write it to Drive.",
        "view": "Nobody is looking at a worker.",
    },
    "auth": {
        "authenticate_user": _BEFORE_JOINING,
        "authenticate_service_account": _BEFORE_JOINING,
    },
    "runtime": {"unassign": "It would end this machine in the middle of the sweep."},
    "output": {"eval_js": "No page runs JavaScript for a worker."},
}
_MODULES = frozenset(f"{_COLAB}.{name}" for name in (*_REFUSED, "userdata"))
_PACKAGES = ("google", _COLAB)
_USERDATA_ERRORS = ("SecretNotFoundError", "NotebookAccessError", "TimeoutException")
_ASK = "Give the value as a parameter of compute, or as a secret (raycolab.start_head(secrets=[...]))."
_CELL = re.compile(r"cell (\d+)")
_MISSING = object()


class KernelOnlyError(RuntimeError):
    """MAIN called, in a worker, what only the kernel of an open notebook can do; the text has the cure."""


def needs_colab(sources: Iterable[str]) -> bool:
    """Whether these cells import google.colab without asking first whether it is there."""
    return any(map(_imports_colab, sources))


class KernelOnly(MetaPathFinder, Loader):
    """The answers, from `install` to `remove`; one at a time in a process.

    It finds google.colab's modules where they are and puts the answers into each once it is loaded. A module that
    cannot be found it makes itself, of nothing but answers, where google.colab is to be there all the same.
    """

    def __init__(self, *, stand_in: bool) -> None:
        self._stand_in = stand_in  # whether google.colab is to be there though it cannot be imported
        self._replaced: list[tuple[Any, str, Any]] = []  # object, attribute, what it was
        self._made: list[str] = []  # modules that are ours alone

    def install(self) -> None:
        """Answer from now on."""
        self._replace(builtins, "input", _refusal("input()", _ASK))
        self._replace(getpass, "getpass", _refusal("getpass.getpass()", _ASK))
        sys.meta_path.insert(0, self)
        for name in _MODULES & sys.modules.keys():
            self._answer(sys.modules[name])
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
        for module in self._made:
            sys.modules.pop(module, None)
            parent, _, name = module.rpartition(".")
            vars(sys.modules.get(parent, ModuleType(""))).pop(name, None)
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
        if module.__name__ in _MODULES:
            self._answer(module)

    def _answer(self, module: ModuleType) -> None:
        """Put the answers into one of google.colab's modules, which has just been loaded."""
        short = module.__name__.rpartition(".")[2]
        for name, advice in _REFUSED.get(short, {}).items():
            original = getattr(module, name, None) if short == "auth" else None
            self._replace(module, name, _refusal(f"{short}.{name}()", advice, original))
        if short == "drive":
            self._replace(module, "mount", _mount)
        elif short == "userdata":
            self._replace(module, "get", functools.partial(_secret, module))

    def _replace(self, owner: Any, name: str, answer: Callable[..., Any]) -> None:
        self._replaced.append((owner, name, getattr(owner, name, _MISSING)))
        setattr(owner, name, answer)

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


# --- the answers -----------------------------------------------------------------------------------------------------


def _mount(mountpoint: str, *args: Any, **options: Any) -> None:
    """`drive.mount`: done where Drive is mounted there."""
    if is_drive_at(Path(mountpoint).expanduser()):
        print(f"Drive is mounted at {mountpoint}.")  # noqa: T201 - MAIN's own output, as the real call has it
        return
    raise KernelOnlyError(
        f"Drive is not mounted at {mountpoint} on this machine, and only its notebook's own kernel can mount it: run"
        f" drive.mount({mountpoint!r}) in that tab before it joins; or {_cure()}"
    )


def _secret(module: ModuleType, key: str) -> str:
    """`userdata.get`: from the environment, where trials have the secrets that were passed on."""
    if key in os.environ:
        return os.environ[key]
    error: Exception = module.SecretNotFoundError(key)
    error.args = (
        f"The secret {key!r} was not passed on to trials: name it where the head starts,"
        f" raycolab.start_head(secrets=[{key!r}]), or where this tab joins, raycolab.join(..., secrets=[{key!r}]); or"
        f" {_cure()}",
    )
    raise error


def _refusal(what: str, advice: str, original: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """A function that fails with a sentence, unless `original` can do without a page what it is for."""

    def refuse(*args: Any, **options: Any) -> Any:
        if original is not None:
            try:
                return original(*args, **options)
            except Exception:  # without a page the call may raise anything, and none of it would help anybody
                pass
        sentence = f"{what} needs an open notebook page, which a worker does not have: {_cure()} {advice}"
        raise KernelOnlyError(sentence)

    return refuse


def _cure() -> str:
    """What to change where the running code of MAIN stands: in a cell, or in a function that a cell defines."""
    frame = sys._getframe(1)
    while frame is not None and (found := _CELL.fullmatch(frame.f_code.co_filename)) is None:
        frame = frame.f_back  # type: ignore[assignment]  # None at the outermost
    if frame is None:
        return "start the cell with `# raycolab: head-only`."
    function = frame.f_code.co_name
    if function.startswith(("<module", "<cell line")):
        return f"start cell {found[1]} with `# raycolab: head-only` if workers can do without it."
    return f"take it out of {function} in cell {found[1]}, which workers run."


def _imports_colab(source: str) -> bool:
    try:
        tree = syntax_tree(source)
    except SyntaxError:
        return False
    for statement in tree.body:
        match statement:
            case ast.Import(names=names) if any((item.name + ".").startswith(_COLAB + ".") for item in names):
                return True
            case ast.ImportFrom(module=str(module), names=names):
                inside = (module + ".").startswith(_COLAB + ".")
                if inside or (module == "google" and any(item.name == "colab" for item in names)):
                    return True
    return False
