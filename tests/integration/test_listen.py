"""A listen address that cannot be had is told before the hub binds it: real sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from raycolab.errors import PortTakenError, UsageError
from raycolab.providers import check_free, choose_provider
from tests.in_loop import in_loop
from tunnel.listen import TcpListen, UnixListen


@pytest.fixture
def taken() -> Iterator[TcpListen]:
    """An address this process listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield TcpListen("127.0.0.1", server.getsockname()[1])


def test_a_taken_port_names_its_holder(taken: TcpListen) -> None:
    """The person learns which program to stop."""
    with pytest.raises(
        PortTakenError, match=rf"Port {taken.port} on 127.0.0.1 is in use by .*\(process {os.getpid()}\)"
    ):
        check_free(taken)


def test_a_free_port_stays_free() -> None:
    """The check leaves nothing behind, and port 0 is always free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = TcpListen("127.0.0.1", server.getsockname()[1])
    check_free(free)
    check_free(free)
    check_free(TcpListen("127.0.0.1", 0))


def test_an_address_of_another_machine_is_a_usage_error() -> None:
    """192.0.2.0/24 is nobody's."""
    with pytest.raises(UsageError, match=r"192\.0\.2\.1:0 is not an address of this machine"):
        check_free(TcpListen("192.0.2.1", 0))


@in_loop
async def test_a_taken_remembered_port_says_what_it_means_for_joiners(taken: TcpListen) -> None:
    """The port that the join address names is worth a sentence of its own."""
    provider = choose_provider(
        "direct", listen=None, url=None, environ={}, remembered={"port": str(taken.port)}, run_dir=Path("/tmp/rc")
    )
    with pytest.raises(PortTakenError, match=f"The join address of this data directory names port {taken.port}"):
        await provider.prepare()


def test_a_live_socket_is_taken_and_a_dead_one_is_not(tmp_path: Path) -> None:
    """A socket file without a listener is a former head's; with one it must not be stolen."""
    path = tmp_path / "hub.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)
        with pytest.raises(PortTakenError, match="is in use by another running head: shut that one down"):
            check_free(UnixListen(path))
    check_free(UnixListen(path))
