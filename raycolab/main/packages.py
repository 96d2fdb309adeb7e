"""What MAIN's cells must leave as it is: ray, raycolab and the installed packages they stand on.

What counts is what is installed where this worker imports from, beside what was there before MAIN's first cell ran on
the node, which the first worker wrote down. Another ray or raycolab is never allowed: every node has the same. Another
version of what they stand on is, as long as nothing that stands on it needs a different one; so an older numpy may be
pinned on purpose. Nothing here looks at what a cell says: pip, uv and a script that calls them are all the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

__all__ = ["ProtectedPackageError", "ProtectedPackages"]

ROOTS = ("ray", "raycolab")


Need = tuple[str, str, Requirement]  # who needs it, that one's version, what it needs


@dataclass(slots=True)
class _Installed:
    """Packages by their canonical names: their versions, and what they need of each other."""

    versions: dict[str, str] = field(default_factory=dict)
    needs: list[Need] = field(default_factory=list)


class ProtectedPackageError(Exception):
    """A cell of MAIN changed a package that this worker stands on."""


class ProtectedPackages:
    """The packages of one node, as its workers must find them."""

    def __init__(self, record: Path, roots: Sequence[str] = ROOTS) -> None:
        """`record` is a file that the workers of one life of the node share; the first to come writes it."""
        self._record = record
        self._roots = tuple(roots)
        if not record.exists():
            _write_once(record, json.dumps(_read(self._roots).versions))
        self._seen = _stamp()

    def check(self, *, always: bool) -> None:
        """Raise ProtectedPackageError when one of them is not as it was and does not fit any more.

        Unless `always`, look only where a folder that Python imports from has changed since the last look.
        """
        stamp = _stamp()
        if not always and stamp == self._seen:
            return
        self._seen = stamp
        recorded: dict[str, str] = json.loads(self._record.read_text(encoding="utf-8"))
        changed = {name: was for name, was in recorded.items() if _version(name) != was}
        needs = _read(self._roots).needs if changed else []
        for name, was in changed.items():
            reason = self._objection(name, needs)
            if reason is not None:
                raise ProtectedPackageError(_sentence(name, was, _version(name), reason))

    def _objection(self, name: str, needs: Sequence[Need]) -> str | None:
        """Why the package may not be as it is now; None when it may."""
        now = _version(name)
        if name in self._roots:
            return f"every node of the cluster must have the same {name}"
        for who, version, need in needs:
            if _canonical(need.name) == name and (now is None or not need.specifier.contains(now, prereleases=True)):
                stands = "" if who in self._roots else ", which raycolab stands on,"
                return f"{who} {version}{stands} needs {need.name}{need.specifier}"
        return None


def _sentence(name: str, was: str, now: str | None, reason: str) -> str:
    changed = f"{name} {was} was removed" if now is None else f"{name} went from {was} to {now}"
    return (
        f"{changed} on this node by what a cell of MAIN ran, but {reason}: leave {name} out of what MAIN installs, or "
        f"pin a version that fits, and mend this node with: pip install {name}=={was}"
    )


def _read(roots: Sequence[str]) -> _Installed:
    """What the roots require, directly or not, as far as it is installed."""
    found = _Installed()
    seen: set[tuple[str, frozenset[str]]] = set()
    wanted = [(root, frozenset[str]()) for root in roots]
    while wanted:
        name, extras = wanted.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        with contextlib.suppress(metadata.PackageNotFoundError):
            dist = metadata.distribution(name)
            found.versions[name] = dist.version
            for need in _requirements(dist, extras):
                found.needs.append((name, dist.version, need))
                wanted.append((_canonical(need.name), frozenset(need.extras)))
    return found


def _requirements(dist: metadata.Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    """What the distribution requires here, with these extras of it."""
    for line in dist.requires or ():
        try:
            need = Requirement(line)
        except InvalidRequirement:  # of an old package, which pip let pass
            continue
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield need


def _canonical(name: str) -> str:
    return str(canonicalize_name(name))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _stamp() -> tuple[int, ...]:
    """Changes whenever something is installed where Python imports from."""
    found = []
    for folder in sys.path:
        with contextlib.suppress(OSError):
            found.append(os.stat(folder or ".").st_mtime_ns)
    return tuple(found)


def _write_once(path: Path, text: str) -> None:
    """Whole or not at all, and never over what another worker wrote."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="utf-8") as beside:
        beside.write(text)
        beside.flush()
        with contextlib.suppress(FileExistsError):
            os.link(beside.name, path)
