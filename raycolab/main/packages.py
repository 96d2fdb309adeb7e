"""What installs of MAIN may not change: ray, raycolab and the packages they stand on.

Another ray or raycolab is never allowed: every node has the same. Another version of what they stand on is, as long as
everything that stands on it can use it, so an older numpy may be installed on purpose. This is written down as a
constraints file, in pip's and uv's own format, before MAIN's first cell runs on the node. While MAIN runs, the
environment names that file, so pip and uv hold to it whoever calls them: an install that would break a constraint fails
before it changes anything. `pip uninstall` is read before it runs. What is done in other ways is found by a look
at the packages after each cell. pip before 25.3 holds to constraints also where it builds packages from source.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name

from raycolab.files import write_private

__all__ = ["PackageGuard", "ProtectedPackageError", "StartAgainError"]

ROOTS = ("ray", "raycolab")
_ASK_S = 120.0  # for what an install that was refused would have changed
VARIABLES = ("PIP_CONSTRAINT", "UV_CONSTRAINT")  # each holds paths, separated by spaces

# `numpy<2,>=1.26`, or `numpy 2.1` for a file of that version, as resolvers print it.
_REQUIREMENT = re.compile(
    r"([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?(?:\s*((?:(?:[<>=!~]=|[<>])\s*[\w.*+!-]+\s*,?\s*)+)|\s(\d[\w.+!]*))"
)

_REMOVAL = re.compile(r"\bpip[\d.]*\s+uninstall\b")


class ProtectedPackageError(Exception):
    """A cell of MAIN changed, or tried to change, a package that this worker stands on."""


class StartAgainError(Exception):
    """A package was replaced of which this process has loaded the one before; the text names it."""


class PackageGuard:
    """The packages of one node, as its workers must find them."""

    def __init__(self, constraints: Path, roots: Sequence[str] = ROOTS) -> None:
        """`constraints` is a file that the workers of one life of the node share; the first to come writes it."""
        self._path = constraints.absolute()
        self._roots = tuple(roots)
        if not constraints.exists():
            lines = sorted(f"{name}{specifier}\n" for name, specifier in self._allowed().items())
            write_private(constraints, "".join(lines))  # by workers that come at once, with the same lines
        self._seen = _stamp()
        self._installed = _installed()

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Have pip and uv hold to the constraints, beside those that the user's own environment names."""
        own = self._path.as_uri() if len(str(self._path).split()) > 1 else str(self._path)
        for name in VARIABLES:
            words = os.environ.get(name, "").split()
            os.environ[name] = " ".join([*words, own])
        try:
            yield
        finally:
            for name in VARIABLES:  # MAIN may have set it anew
                words = [word for word in os.environ.pop(name, "").split() if word != own]
                if words:
                    os.environ[name] = " ".join(words)

    def check(self, *, always: bool, loaded: Container[str] = ()) -> None:
        """Raise ProtectedPackageError where an installed package breaks a constraint or is gone.

        StartAgainError where one has been installed since the last look that has modules among these, the `loaded`.
        Unless `always`, look only where a folder that Python imports from has changed since.
        """
        stamp = _stamp()
        if not always and stamp == self._seen:
            return
        self._seen = stamp
        before, self._installed = self._installed, _installed()
        self._check_constraints()
        new = [Path(path) for path, changed_at in self._installed.items() if before.get(path) != changed_at]
        replaced = [path.name.removesuffix(".dist-info") for path in new if any(m in loaded for m in _modules(path))]
        if replaced:
            raise StartAgainError(f"{_listed(sorted(replaced))} was installed in the place of what is loaded")

    def _check_constraints(self) -> None:
        constraints = self._constraints()
        found = {name: _version(name) for name in constraints}
        broken = {
            name: SpecifierSet(f"=={version}" if version else "")
            for name, version in found.items()
            if not _fits(version, constraints[name])
        }
        if broken:
            what = ", ".join(f"{name} is {found[name] or 'missing'}" for name in broken)
            cure = " ".join(f"'{name}{constraints[name]}'" for name in broken)
            raise ProtectedPackageError(
                f"on this node {what} after what a cell of MAIN ran, but {self._reasons(broken)}: leave"
                f" {_listed(broken)} out of what MAIN installs and removes, and mend this node with: pip install {cure}"
            )

    def refuse_removal(self, command: str) -> None:
        """Raise ProtectedPackageError for a command that would uninstall one of them, which no constraint stops."""
        removal = _REMOVAL.search(command)
        if removal is None:
            return
        words = {canonicalize_name(word) for word in re.split(r"[\s;&|'\"]+", command[removal.end() :])}
        kept = sorted(words & self._constraints().keys())
        if kept:
            why = self._reasons(dict.fromkeys(kept, SpecifierSet()))
            raise ProtectedPackageError(
                f"`{command.strip()}` was not run, because {why}: leave {_listed(kept)} out of what MAIN removes"
            )

    def refused(self, command: str, output: str) -> ProtectedPackageError | None:
        """The error of an installer that failed with this output because of a constraint; None for other reasons.

        pip names the first package that it cannot have; what else the command would have changed is asked of it.
        """
        constraints = self._constraints()
        asked: dict[str, SpecifierSet] = {}
        for word, specifier, version in _REQUIREMENT.findall(output):
            name = canonicalize_name(word)
            with contextlib.suppress(InvalidSpecifier):
                need = SpecifierSet((specifier or f"=={version}").strip().rstrip(",.-"))
                if name in constraints and not _overlap(need, constraints[name]):
                    asked.setdefault(name, need)
        if not asked:
            return None
        for package, would_be in _would_install(command).items():
            if package in constraints and not _fits(would_be, constraints[package]):
                asked.setdefault(package, SpecifierSet(f"=={would_be}"))
        wanted = ", ".join(f"{name}{specifier} (here it is {_version(name)})" for name, specifier in asked.items())
        return ProtectedPackageError(
            f"`{command}` was refused before it changed anything, because it needs {wanted}, but"
            f" {self._reasons(asked)}: leave {_listed(asked)} out of what MAIN installs, or ask for a version that fits"
        )

    def _constraints(self) -> dict[str, SpecifierSet]:
        lines = self._path.read_text(encoding="utf-8").splitlines()
        return {need.name: need.specifier for need in map(Requirement, lines)}

    def _allowed(self) -> dict[str, SpecifierSet]:
        """The installed packages that the roots stand on and the versions that may be installed of each."""
        allowed = {root: SpecifierSet(f"=={version}") for root in self._roots if (version := _version(root))}
        for _, need in _needs(self._roots):
            name = canonicalize_name(need.name)
            # What is not as it should be before MAIN ran is not MAIN's doing.
            if name not in self._roots and _fits(_version(name), need.specifier):
                allowed[name] = allowed.get(name, SpecifierSet()) & need.specifier
        return allowed

    def _reasons(self, wrong: Mapping[str, SpecifierSet]) -> str:
        """Who objects to these versions of packages; an empty specifier stands for none at all."""
        reasons = [f"every node of the cluster must have the same {name}" for name in wrong if name in self._roots]
        objections = {
            f"{canonicalize_name(dist.name)} {dist.version} needs {name}{need.specifier}"
            for dist, need in _needs(self._roots)
            if (name := canonicalize_name(need.name)) in wrong
            and not (wrong[name] and _overlap(wrong[name], need.specifier))
        }
        return " and ".join([*reasons, *sorted(objections)])


def _needs(roots: Sequence[str]) -> Iterator[tuple[metadata.Distribution, Requirement]]:
    """Each installed package that the roots stand on, themselves first, with each of its requirements."""
    seen: set[tuple[str, frozenset[str]]] = set()
    wanted = [(root, frozenset[str]()) for root in roots]
    while wanted:
        name, extras = wanted.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        with contextlib.suppress(metadata.PackageNotFoundError):
            dist = metadata.distribution(name)
            for need in _requirements(dist, extras):
                yield dist, need
                wanted.append((canonicalize_name(need.name), frozenset(need.extras)))


def _requirements(dist: metadata.Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    """What the distribution requires here, with these extras of it."""
    for line in dist.requires or ():
        try:
            need = Requirement(line)
        except InvalidRequirement:  # of an old package, which pip let pass
            continue
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield need


def _fits(version: str | None, specifier: SpecifierSet) -> bool:
    """Whether an installed version is one of these; one that is missing is not."""
    return version is not None and specifier.contains(version, prereleases=True)


def _overlap(one: SpecifierSet, other: SpecifierSet) -> bool:
    """Whether a version that one of the two names is in both."""
    named = [specifier.version.removesuffix(".*") for specifier in (*one, *other)]
    return any(one.contains(version, True) and other.contains(version, True) for version in named)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _would_install(command: str) -> dict[NormalizedName, str]:
    """What a command of pip would install if nothing were constrained; {} where that cannot be told."""
    try:
        words = shlex.split(command, comments=True)
        arguments = words[words.index("install") + 1 :]
    except ValueError:  # it is no install, or no shell's words
        return {}
    end = next((at for at, word in enumerate(arguments) if word in ("&&", "||", ";", "|")), len(arguments))
    pip = [sys.executable, "-m", "pip", "install", *arguments[:end], "--dry-run", "--quiet", "--report", "-"]
    own = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    try:
        asked = subprocess.run(pip, capture_output=True, env=own, check=True, timeout=_ASK_S)
        found = msgspec.json.decode(asked.stdout)["install"]
    except (subprocess.SubprocessError, msgspec.DecodeError):
        return {}
    return {canonicalize_name(each["metadata"]["name"]): each["metadata"]["version"] for each in found}


def _installed() -> dict[str, int]:
    """The folder of each installed distribution, and when it was written."""
    found: dict[str, int] = {}
    for folder in sys.path:
        with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:
            found |= {entry.path: entry.stat().st_mtime_ns for entry in entries if entry.name.endswith(".dist-info")}
    return found


def _modules(info: Path) -> set[str]:
    """The top-level modules of an installed distribution."""
    found = set()
    with contextlib.suppress(OSError):
        for line in (info / "RECORD").read_text(encoding="utf-8").splitlines():
            first, _, rest = line.partition(",")[0].partition("/")
            if rest or first.endswith(".py"):
                found.add(first.removesuffix(".py"))
    return found


def _stamp() -> tuple[int, ...]:
    """Changes whenever something is installed where Python imports from."""
    found = []
    for folder in sys.path:
        with contextlib.suppress(OSError):
            found.append(os.stat(folder or ".").st_mtime_ns)
    return tuple(found)
