"""The programs that tests start beside Python, and Debian's packages for them.

`needs("nginx")` in a test or a fixture gives the program's path. Where it is not installed the test is skipped, with
the package as its reason; under CI (`CI` is set) it fails instead. Run as a file, before anything is installed, this
prints the missing packages, or which of those named are missing; `.ci/packages` then installs them.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

__all__ = ["find", "is_missing_program", "missing_packages", "needs"]

_PACKAGES = {
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "scp": "openssh-client",
    "ssh-keygen": "openssh-client",
    "nginx": "nginx-light",
    "haproxy": "haproxy",
    "initdb": "postgresql",
    "chromium": "chromium",
    "ip": "iproute2",
    "chromedriver": "chromium-driver",
}
_REASON = "is not installed: Debian has it in the package"
# Debian keeps servers outside a plain user's PATH, and PostgreSQL's in a folder for each version.
_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin", *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin"))))


def find(program: str) -> str | None:
    """The path of a program; None where it is not installed."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_FOLDERS]))


def needs(program: str) -> str:
    """The path of a program of the table; where it is not installed the test that asks ends, skipped or failed."""
    import pytest  # which is not there yet when this file is run

    path = find(program)
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{program} {_REASON} {_PACKAGES[program]}")
    return path


def is_missing_program(reason: str) -> bool:
    """Whether a test was skipped by `needs`."""
    return _REASON in reason


def missing_packages() -> list[str]:
    """Debian's packages for all that is not installed, and the one that lets Python make virtual environments."""
    packages = {package for program, package in _PACKAGES.items() if find(program) is None}
    if importlib.util.find_spec("ensurepip") is None:
        packages.add("python3-venv")
    return sorted(packages)


if __name__ == "__main__":
    named = sys.argv[1:]  # of these alone it is asked
    print(*(package for package in missing_packages() if package in named or not named))  # noqa: T201 - for .ci/packages
