"""The walls of DESIGN section 10 as data, each with its reason, and a test that they hold.

A wall names the modules it is about and what they must not import; a door names a package that few modules may
import. Names end at a dot: `raycolab.store` means the package and all in it. Modules of a rule need not exist yet.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("raycolab", "tunnel")


@dataclass(frozen=True, slots=True)
class Wall:
    """`modules` must not import `forbidden`."""

    modules: tuple[str, ...]
    forbidden: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Door:
    """Only `modules` may import `package`."""

    package: str
    modules: tuple[str, ...]
    reason: str


TUNNEL_CORE = tuple(
    f"tunnel.{name}"
    for name in (
        *("errors", "address", "nodes", "frames", "messages", "window", "stream", "ledger", "keepalive"),
        *("congestion", "link", "router", "secure"),
    )
)
RAYCOLAB_CORE = tuple(
    f"raycolab.{name}"
    for name in (
        *("errors", "trials", "text", "summary"),
        *(
            "spec.values",
            "spec.beta",
            "spec.domains",
            "spec.foreign",
            "spec.wandb",
            "spec.spaces",
            "spec.keys",
            "spec.readers",
        ),
        *("spec.resources", "spec.spec", "spec.change"),
        *("engine.book", "engine.dispatch", "engine.fleet", "engine.guards", "engine.messages"),
        *("engine.pace", "engine.scheduler"),
        *("node.api", "node.ray_command"),
    )
)

WALLS = (
    Wall(
        ("tunnel",),
        (
            *("raycolab", "ray", "IPython", "ipykernel", "nbformat", "nbclient", "jupyter_client"),
            *("google", "pyngrok", "pandas", "numpy", "sqlalchemy", "optuna", "rich", "click"),
        ),
        "the tunnel knows nothing of Ray, notebooks or Colab and is useful alone",
    ),
    Wall(
        (*TUNNEL_CORE, *RAYCOLAB_CORE),
        (
            *("time", "socket", "socketserver", "select", "selectors", "threading", "multiprocessing", "subprocess"),
            *("concurrent", "queue", "random", "secrets", "uuid", "logging", "asyncio", "signal", "websockets"),
        ),
        "what decides does no I/O: time, randomness and nonces are arguments, logs belong to drivers",
    ),
    Wall(
        tuple(module for module in (*TUNNEL_CORE, *RAYCOLAB_CORE) if module != "tunnel.secure"),
        ("os", "ssl", "io", "pathlib", "tempfile", "shutil"),
        "a sans-I/O module touches no file; in tunnel.secure ssl wants its certificate from one",
    ),
    Wall(
        TUNNEL_CORE,
        ("tunnel.transport", "tunnel.sockets", "tunnel.hub", "tunnel.agent", "tunnel.gate", "tunnel.dial"),
        "the sans-I/O core stands below its drivers",
    ),
    Wall(PACKAGES, ("tests", "pytest", "hypothesis"), "what is shipped does not need what tests it"),
)

DOORS = (
    Door(
        "ray",
        ("raycolab.engine", "raycolab.engine.slot", "raycolab.plain_ray", "raycolab.main.program"),
        "Ray is slow to import and must see its environment first",
    ),
    Door(
        "pandas",
        ("raycolab.results.table", "raycolab.results.frame", "raycolab.view"),
        "pandas costs half a second and is for showing results",
    ),
    Door("pyngrok", ("raycolab.providers.ngrok",), "one provider among several"),
    Door("google.colab", ("raycolab.colab",), "exists only in Colab's kernel"),
    Door("sqlalchemy", ("raycolab.store",), "the store's tables are nobody else's business"),
    Door(
        "optuna",
        ("raycolab.search", "raycolab.spec.pruners", "raycolab.results.study", "raycolab.results.dashboard"),
        "one search method among several, and a form of its results; spaces are recognised without it",
    ),
    Door("mlflow", ("raycolab.results.mlflow",), "an extra: everything works without"),
    Door("optuna_dashboard", ("raycolab.results.dashboard",), "an extra: everything works without"),
    Door("websockets", ("tunnel",), "raycolab speaks through the tunnel"),
    Door(
        "IPython",
        (
            *(
                "raycolab.main.runtime",
                "raycolab.main.shell",
                "raycolab.main.source",
                "raycolab.main.kernel",
            ),
            *("raycolab.view", "raycolab.notebook"),
        ),
        "MAIN runs in its shell and panels are shown through it; all else works without",
    ),
    Door("nbformat", ("raycolab.main.notebook",), "a notebook file is read in one place"),
    Door("jinja2", ("raycolab.view.pages",), "what goes into a page is escaped in one place"),
)

CLOCKS = frozenset({"now", "utcnow", "today"})  # of datetime, whose arithmetic a sans-I/O module may use
HEAVY = (
    *("ray", "pandas", "numpy", "pyarrow", "sqlalchemy", "optuna", "IPython", "nbformat", "pyngrok"),
    *("websockets", "cryptography", "rich", "click", "yaml", "jinja2"),
)


def _within(name: str, packages: tuple[str, ...]) -> bool:
    """Tell whether a dotted name is one of the packages or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _imports(module: str, tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every dotted name the module imports, at any depth, with its line; also from importlib by a literal."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(module=source, names=names, level=level):
                base = ".".join(module.split(".")[:-level]) if level else ""
                origin = ".".join(part for part in (base, source) if part)
                yield from ((f"{origin}.{alias.name}", node.lineno) for alias in names)
            case ast.Call(func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__")):
                match node.args:
                    case [ast.Constant(value=str(name)), *_]:
                        yield name, node.lineno


def _broken_walls(module: str, tree: ast.AST) -> Iterator[str]:
    for name, line in _imports(module, tree):
        for wall in WALLS:
            if _within(module, wall.modules) and _within(name, wall.forbidden):
                yield f"line {line} imports {name}: {wall.reason}"
        for door in DOORS:
            if _within(name, (door.package,)) and not _within(module, door.modules):
                yield f"line {line} imports {name}, which only {', '.join(door.modules)} may: {door.reason}"


def _clocks(module: str, tree: ast.AST) -> Iterator[str]:
    if not _within(module, (*TUNNEL_CORE, *RAYCOLAB_CORE)):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=name, value=ast.Name(id="datetime" | "date"))) if name in CLOCKS:
                yield f"line {node.lineno} reads the clock: the time is an argument"


def _private_names(module: str, tree: ast.AST) -> Iterator[str]:
    """Yield the imports of a name that its own module keeps to itself."""
    for name, line in _imports(module, tree):
        if _within(name, (*PACKAGES, "tests")):
            for part in name.split("."):
                if part.startswith("_") and not part.startswith("__"):
                    yield f"line {line} imports {name}: a name with an underscore is its module's own"


def _form(module: str, tree: ast.Module) -> Iterator[str]:
    """Yield what a shipped module lacks."""
    described = ast.get_docstring(tree) is not None
    if not described:
        yield "has no docstring that says what it is for"
    nothing_to_name = module.endswith(".__main__") or (described and len(tree.body) == 1)
    named = any(isinstance(node, ast.Assign | ast.AnnAssign) and "__all__" in ast.unparse(node) for node in tree.body)
    if not named and not nothing_to_name:
        yield "has no __all__ that says what is public"


def violations(module: str, source: str) -> list[str]:
    """List every rule that the module of that dotted name would break with that source."""
    tree = ast.parse(source)
    found = [*_private_names(module, tree)]
    if _within(module, PACKAGES):
        found += [*_broken_walls(module, tree), *_clocks(module, tree), *_form(module, tree)]
    return found


def _files() -> list[Path]:
    return sorted(path for folder in (*PACKAGES, "tests", "examples") for path in (ROOT / folder).rglob("*.py"))


def _module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imported(module: str, tree: ast.Module, known: Iterable[str]) -> set[str]:
    """The known modules that this one imports when it runs, at any depth: those of TYPE_CHECKING are for mypy alone."""
    for node in ast.walk(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                node.body = []
    known = set(known)
    found = set()
    for name, _ in _imports(module, tree):
        while name and name not in known:
            name = name.rpartition(".")[0]
        found.add(name)
    return found - {module, ""}


def _cycle(imports: Mapping[str, set[str]]) -> list[str]:
    """One cycle of modules that import each other, the first one again at its end; empty when there is none."""
    clear: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module not in clear:
            for imported in sorted(imports[module]):
                if found := visit(imported, (*path, module)):
                    return found
            clear.add(module)
        return []

    return next((found for module in sorted(imports) if (found := visit(module, ()))), [])


def test_no_import_cycle() -> None:
    """No modules of the two packages import each other in a circle, imports inside functions counted."""
    sources = {_module_of(path): path.read_text() for path in _files() if _within(_module_of(path), PACKAGES)}
    assert _cycle({module: _imported(module, ast.parse(text), sources) for module, text in sources.items()}) == []


@pytest.mark.parametrize(
    ("sources", "cycle"),
    [
        ({"a": "import b", "b": "import c", "c": "def f():\n    from a import x"}, ["a", "b", "c", "a"]),
        ({"a": "import b", "b": "import c", "c": ""}, []),
        ({"a": "import b", "b": "if TYPE_CHECKING:\n    import a"}, []),
    ],
)
def test_an_import_cycle_is_seen(sources: dict[str, str], cycle: list[str]) -> None:
    """A circle is found wherever its imports stand, but for those that never run."""
    assert _cycle({module: _imported(module, ast.parse(text), sources) for module, text in sources.items()}) == cycle


# The time of day can be set while a program runs, so nothing that is waited for or measured may come from it.
TIME_OF_DAY = {
    "engine": "where the clock that does not jump begins",
    "engine.actor": "claims, which heads on other machines read; when a sweep at rest was cancelled",
    "engine.commit": "claims",
    "engine.stored_sweeps": "when a sweep was declared",
    "main.runtime": "shown, unless another clock is given, as in every worker and notebook that pulls",
    "node.head": "the head's record, its certificate, and the month that traffic is counted in",
    "node.lifeline": "beside the time of a file",
    "node.snapshots": "shown",
    "node.supervisor": "shown",
    "store.archives": "beside the time of a file",
    "sweep": "beside the times of rows",
    "__main__": "tunnel's certificate",
}


def test_few_read_the_time_of_day() -> None:
    """Deadlines, leases, budgets and durations are reckoned by a clock that nobody sets."""
    readers = {
        ".".join(_module_of(path).split(".")[1:]).removesuffix(".__init__")
        for path in _files()
        if _within(_module_of(path), PACKAGES)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.time", "datetime.now", "datetime.utcnow")
    }
    assert readers == set(TIME_OF_DAY)


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_walls_hold(path: Path) -> None:
    """No module of the repository breaks a rule."""
    assert violations(_module_of(path), path.read_text()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("tunnel.frames", "import raycolab.trials"),
        ("tunnel.frames", "import ray"),
        ("tunnel.frames", "from IPython import get_ipython"),
        ("tunnel.frames", "import time"),
        ("tunnel.frames", "from time import monotonic"),
        ("tunnel.frames", "import os.path"),
        ("tunnel.frames", "def f():\n    import socket"),
        ("tunnel.frames", "from tunnel import hub"),
        ("tunnel.frames", "from . import hub"),
        ("tunnel.frames", "import importlib; importlib.import_module('logging')"),
        ("tunnel.frames", "import datetime as _d; from datetime import datetime; datetime.now()"),
        ("tunnel.frames", "from tunnel.window import _private"),
        ("raycolab.node.ray_command", "import asyncio"),
        ("raycolab.node.ray_command", "import random"),
        ("raycolab.node.ray_command", "from ray import init"),
        ("raycolab.errors", "import pandas as pd"),
        ("raycolab.errors", "import sqlalchemy.orm"),
        ("raycolab.errors", "from google.colab import userdata"),
        ("raycolab.errors", "from google import colab"),
        ("raycolab.errors", "import pyngrok.conf"),
        ("raycolab.errors", "import optuna"),
    ],
)
def test_a_broken_wall_is_seen(module: str, line: str) -> None:
    """A real module is clean, and is caught with one forbidden line added."""
    source = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text()
    assert violations(module, source) == []
    assert len(violations(module, f"{source}\n{line}\n")) >= 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("raycolab.engine.actor", "import ray"),
        ("raycolab.view.tables", "import pandas"),
        ("raycolab.search.studies", "import optuna"),
        ("raycolab.store.tables", "from sqlalchemy import Table"),
        ("raycolab.colab", "from google.colab import userdata"),
        ("raycolab.raylet", "import rayleigh"),
        ("tunnel.secure", "from datetime import datetime, timedelta"),
        ("tunnel.hub", "import asyncio, time"),
    ],
)
def test_an_open_door_is_no_wall(module: str, line: str) -> None:
    """What a rule allows is not reported, and a name that merely begins alike is another name."""
    assert violations(module, f'"""A module."""\n{line}\n__all__ = []\n') == []


@pytest.mark.parametrize("source", ["__all__ = []", '"""Says what it is for."""\nx = 1'])
def test_a_module_without_docstring_or_all_is_seen(source: str) -> None:
    """Every shipped module says what it is for and what is public."""
    assert len(violations("raycolab.anything", source)) == 1


def test_import_raycolab_is_cheap() -> None:
    """Importing the package loads none of its heavy dependencies, however it is used later."""
    code = f"import sys, raycolab, tunnel; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []
