"""What makes a process a driver of the cluster, as far as that needs no Ray; the rest is in `tests/integration`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from raycolab.errors import UsageError
from raycolab.node.api import HeadFacts
from raycolab.plain_ray import connect, driver_environment, shell_exports

FACTS = HeadFacts("tunnel+x", "127.77.0.1:20000", "it's " + "t" * 40)


def test_a_bare_init_finds_the_cluster() -> None:
    """Address and token, and the time limits of every process of the cluster."""
    environment = driver_environment(FACTS)
    assert environment["RAY_ADDRESS"] == "127.77.0.1:20000"
    assert environment["RAY_AUTH_TOKEN"] == FACTS.ray_token
    assert int(environment["RAY_health_check_timeout_ms"]) > 120_000


def test_a_shell_reads_what_is_exported() -> None:
    """Whatever characters are in it."""
    script = f"{shell_exports(FACTS)} exec env"
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, env={}).stdout
    assert driver_environment(FACTS).items() <= dict(line.partition("=")[::2] for line in said.splitlines()).items()


@pytest.mark.parametrize("name", ["pip", "uv"])
def test_packages_that_ray_cannot_install_are_refused_before_anything_is_reached(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where virtualenv is missing; Ray would say so at the first task."""
    monkeypatch.setitem(sys.modules, "virtualenv", None)  # Python's own way to say that there is none
    with pytest.raises(UsageError, match=f"runtime_env with '{name}' needs the package virtualenv on every node"):
        connect(FACTS, "127.77.0.1", runtime_env={name: ["x"]}, namespace="raycolab", log_to_driver=False)
