"""Python, this machine's system, and the packages that raycolab's own metadata asks for."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from raycolab.diagnostics.check import Finding, bad, good, note
from raycolab.node.versions import versions

__all__ = ["installed_version", "loaded_versions", "packages", "python", "requirements", "system"]

_MODULES = {"ipython": "IPython", "pyyaml": "yaml"}  # whose module has another name than the package
_DEMO = "demo"  # the extra with what the example's MAIN imports


def python(running: str, needed: str) -> Finding:
    """Whether this Python is new enough; names what must agree across a cluster."""
    if not SpecifierSet(needed).contains(running, prereleases=True):
        return bad(f"This is Python {running} and raycolab needs {needed}: choose a runtime with another Python.")
    ours = versions()
    return good(
        f"Python {running}, Ray {ours['ray']}, raycolab {ours['raycolab']}: the head and every joiner need these very"
        " versions."
    )


def system(name: str) -> Finding:
    """Clusters need Linux."""
    if name == "Linux":
        return good(f"Linux {platform.release()}, {platform.machine()}.")
    return bad(f"A head or joiner needs Linux and this is {name}: use Colab, a Linux machine or a container.")


def requirements() -> list[Requirement]:
    """What raycolab needs here, with what the example's MAIN needs."""
    needed = map(Requirement, metadata.requires("raycolab") or ())
    return [each for each in needed if each.marker is None or each.marker.evaluate({"extra": _DEMO})]


def installed_version(package: str) -> str | None:
    """The version of an installed package, None when there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def loaded_versions(needed: Iterable[Requirement]) -> dict[str, str]:
    """The versions of those packages that this process has imported, which an installation may have overtaken."""
    found = {}
    for each in needed:
        module = sys.modules.get(_MODULES.get(each.name, each.name))
        version = getattr(module, "__version__", None)
        if isinstance(version, str):
            found[each.name] = version
    return found


def packages(needed: list[Requirement], installed: Callable[[str], str | None], loaded: Mapping[str, str]) -> Finding:
    """Whether every package is there, new enough, and the one this process has loaded."""
    wrong, absent_for_demo = [], []
    for each in needed:
        there = installed(each.name)
        if there is not None and each.specifier.contains(there, prereleases=True):
            continue
        if each.marker is not None and "extra" in str(each.marker):
            absent_for_demo.append(f"{each.name}{each.specifier}")
        else:
            wrong.append((f"{each.name} {there or 'is missing'}", f"{each.name}{each.specifier}"))
    if wrong:
        found, cure = zip(*wrong, strict=True)
        quoted = " ".join(f"'{one}'" for one in cure)
        return bad(f"{', '.join(found)}: run `pip install {quoted}`, then restart the kernel if there is one.")
    stale = [name for name, version in loaded.items() if _differ(version, installed(name))]
    if stale:
        return bad(f"{', '.join(stale)} changed on disk since this kernel imported it: restart the kernel.")
    if absent_for_demo:
        missing = ", ".join(absent_for_demo)
        return note(f"All is there but {missing}, which `raycolab demo` needs: run `pip install 'raycolab[demo]'`.")
    return good(f"All {len(needed)} packages are there and new enough.")


def _differ(loaded: str, installed: str | None) -> bool:
    try:
        return installed is not None and Version(loaded) != Version(installed)
    except InvalidVersion:  # one that is not spelled as packages are
        return False
