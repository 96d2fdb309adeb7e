"""Ray's ports, arguments and environment, asserted without Ray."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import astuple

import pytest

from raycolab.errors import UsageError
from raycolab.node.ray_command import (
    RayPorts,
    check_labels,
    check_resources,
    ports_needed,
    ray_environment,
    required_ports,
    start_command,
)
from tunnel.nodes import PortBlock

BLOCK = PortBlock(20_000, 32)
PORTS = RayPorts.of(BLOCK)
TOKEN = "t" * 32


def _head(num_gpus: int | None = None) -> list[str]:
    return start_command(
        PORTS,
        node_ip="127.77.0.1",
        node_name="head",
        head_address=None,
        num_cpus=2,
        num_gpus=num_gpus,
        temp_dir="/tmp/x/r",
    )


def _joiner(resources: Mapping[str, float] | None = None, labels: Mapping[str, str] | None = None) -> list[str]:
    return start_command(
        PORTS,
        node_ip="127.77.0.2",
        node_name="joiner-1",
        head_address="127.77.0.1:20000",
        num_cpus=2,
        num_gpus=1,
        temp_dir="/tmp/x/r",
        resources=resources,
        labels=labels,
    )


def _ports_in(command: list[str]) -> list[int]:
    return [int(word.split("=")[1]) for word in command if "-port=" in word or word.startswith("--port=")]


@pytest.mark.parametrize(("num_cpus", "needed"), [(0, 24), (1, 32), (4, 32), (5, 40), (96, 216)])
def test_a_block_has_room_for_two_workers_per_cpu(num_cpus: int, needed: int) -> None:
    """A block holds 8 + 2 x num_cpus + 16 ports, rounded up to a multiple of 8."""
    assert ports_needed(num_cpus) == needed


def test_every_port_lies_in_the_block_and_none_is_given_twice() -> None:
    """The fixed ports and the range for workers fill the block from end to end without overlap."""
    numbers = astuple(PORTS)
    assert list(numbers[:9]) == list(range(20_000, 20_009))
    assert numbers[9] == 20_031
    assert all(port in BLOCK.ports for port in numbers)


def test_a_block_too_small_for_ray_is_refused() -> None:
    """Ray wants its fixed ports and a range of at least two for workers."""
    assert RayPorts.of(PortBlock(20_000, 10)).max_worker == 20_009
    with pytest.raises(ValueError, match="too small"):
        RayPorts.of(PortBlock(20_000, 9))


def test_a_heads_command_pins_every_port_of_a_head() -> None:
    """The head names its ten ports, GCS and dashboard among them, and starts neither dashboard nor autoscaler."""
    command = _head()
    assert sorted(_ports_in(command)) == sorted(astuple(PORTS))
    assert command[:6] == [sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--block"]
    assert {"--head", "--port=20000", "--include-dashboard=false", "--no-monitor"} <= set(command)
    assert {"--node-ip-address=127.77.0.1", "--node-name=head", "--num-cpus=2", "--temp-dir=/tmp/x/r"} <= set(command)


def test_a_joiners_command_names_the_head_and_no_head_only_port() -> None:
    """Ray refuses --port and --include-dashboard on a joiner."""
    command = _joiner()
    assert "--address=127.77.0.1:20000" in command
    assert sorted(_ports_in(command)) == sorted(astuple(PORTS)[2:])
    assert not {"--head", "--include-dashboard=false", "--no-monitor"} & set(command)


def test_a_nodes_own_resources_and_labels_reach_ray() -> None:
    """As `ray start` takes them; a node without any says nothing of them."""
    command = _joiner(resources={"disk": 2, "tpu": 0.5}, labels={"zone": "eu", "disk": "ssd"})
    assert {'--resources={"disk": 2, "tpu": 0.5}', "--labels=zone=eu,disk=ssd"} <= set(command)
    assert not any(word.startswith(("--resources", "--labels")) for word in _joiner())


@pytest.mark.parametrize(
    "resources", [{"CPU": 1}, {"memory": 1}, {"": 1}, {"disk": -1}, {"disk": 1.5}, {"disk": "2"}, {"disk": math.inf}]
)
def test_resources_that_ray_would_not_take_are_refused(resources: dict[str, object]) -> None:
    """Before anything is started; whole numbers and parts of one are taken."""
    check_resources({"disk": 4, "tpu": 0.5, "no": 0})
    with pytest.raises(UsageError, match="resources has"):
        check_resources(resources)


@pytest.mark.parametrize("labels", [{"ray.io/x": "y"}, {"": "y"}, {"zone": "a b"}, {"zone": 1}, {"zone": "a" * 64}])
def test_labels_that_ray_would_not_take_are_refused(labels: dict[str, object]) -> None:
    """Before anything is started; Ray's own would only be in its log."""
    check_labels({"zone": "eu-1", "example.com/disk": "ssd", "empty": ""})
    with pytest.raises(UsageError, match="labels has"):
        check_labels(labels)


def test_nothing_sends_what_workers_print_through_the_tunnel() -> None:
    """Unless a driver asks for it: a chatty training would use up an allowance."""
    assert all("--include-log-monitor=false" in command for command in (_head(), _joiner()))


def test_gpus_are_counted_by_ray_unless_a_number_is_given() -> None:
    """Without a number Ray looks for GPUs itself; 0 hides them."""
    assert not any("--num-gpus" in word for word in _head())
    assert "--num-gpus=0" in _head(num_gpus=0)
    assert "--num-gpus=1" in _joiner()


def test_bare_ray_gets_no_client_port() -> None:
    """Ray without extras refuses --ray-client-server-port."""
    assert not any("client" in word for word in [*_head(), *_joiner()])


def test_required_ports_are_those_other_nodes_dial() -> None:
    """Everybody dials a node's node and object manager, and the head's GCS."""
    assert required_ports(PORTS, head=False) == {"node manager": 20_002, "object manager": 20_003}
    assert required_ports(PORTS, head=True) == {"GCS": 20_000, "node manager": 20_002, "object manager": 20_003}


def test_environment_turns_token_auth_on_and_stays_quiet() -> None:
    """Every Ray process proves itself with the token; another patch release of Python is no reason to refuse it."""
    environment = ray_environment(TOKEN, {"PATH": "/bin"})
    assert (environment["RAY_AUTH_MODE"], environment["RAY_AUTH_TOKEN"]) == ("token", TOKEN)
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert environment["RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL"] == "minor"
    assert environment["PATH"] == "/bin"
    assert ray_environment(TOKEN, {}, PORTS)["RAYCOLAB_PORTS"] == "20008-20031"


def test_environment_drops_what_would_bend_ray_and_our_secrets() -> None:
    """A kernel's plotting backend, another Ray's address and our own secrets stay out; the user's choices stay."""
    base = {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "RAY_ADDRESS": "10.0.0.1:6379",
        "RAY_AUTH_TOKEN_PATH": "/home/me/token",
        "RAY_NAMESPACE": "other",
        "RAY_TMPDIR": "/elsewhere",
        "RAYCOLAB_JOIN_ADDRESS": "secret",
        "NGROK_AUTHTOKEN": "secret",
    }
    assert not base.keys() & ray_environment(TOKEN, base).keys()
    kept = {"MPLBACKEND": "Agg", "PYTHONPATH": "/mine", "RAY_memory_usage_threshold": "0.9"}
    assert kept.items() <= ray_environment(TOKEN, kept).items()


def test_the_given_environment_and_ours_do_not_mix() -> None:
    """The base is left as it was, and a value of ours wins over an inherited one."""
    base = {"RAY_USAGE_STATS_ENABLED": "1"}
    assert ray_environment(TOKEN, base)["RAY_USAGE_STATS_ENABLED"] == "0"
    assert base == {"RAY_USAGE_STATS_ENABLED": "1"}


def test_a_short_token_is_refused() -> None:
    """Ray wants 32 characters."""
    with pytest.raises(ValueError, match="32"):
        ray_environment("short", {})


def test_the_token_is_in_no_argument() -> None:
    """Arguments are readable by every user of the machine."""
    assert not any(TOKEN in word for word in [*_head(), *_joiner()])
