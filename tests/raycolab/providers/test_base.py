"""Listen addresses, and the sentence for each way in which binding one fails."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from raycolab.errors import ClusterError, PortTakenError, RaycolabError, UsageError
from raycolab.providers.base import bind_failure, parse_listen
from tunnel.listen import Listen, TcpListen, UnixListen

TCP = TcpListen("127.0.0.1", 8765)


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("127.0.0.1:8765", TCP),
        (" 0.0.0.0:0 ", TcpListen("0.0.0.0", 0)),
        ("head.example:65535", TcpListen("head.example", 65535)),
        ("[::1]:9", TcpListen("::1", 9)),
    ],
)
def test_a_host_and_a_port_are_read(text: str, listen: TcpListen) -> None:
    """HOST:PORT, with IPv6 in brackets."""
    assert parse_listen(text) == listen


@pytest.mark.parametrize(
    "text", ["", "8765", ":8765", "host:", "host:port", "host:65536", "host:-1", "host:²", f"host:{'9' * 5000}"]
)
def test_anything_else_is_a_usage_error_with_an_example(text: str) -> None:
    """What is not HOST:PORT is told how to be."""
    with pytest.raises(UsageError, match=r"write it as HOST:PORT, as in 127\.0\.0\.1:8765"):
        parse_listen(text)


@pytest.mark.parametrize("host", ["\udcff", "a" * 64, "a..b"])
def test_a_host_that_no_machine_can_be_called_is_refused(host: str) -> None:
    """What the resolver could not even ask for."""
    with pytest.raises(UsageError, match="is no name a machine can have"):
        parse_listen(f"{host}:8765")


def test_an_ipv6_address_without_brackets_is_told_to_have_them() -> None:
    """`::1:8765` may mean two things."""
    with pytest.raises(UsageError, match=r"put an IPv6 address in brackets, as in \[::1\]:8765"):
        parse_listen("::1:8765")


@pytest.mark.parametrize("text", ["127.0.0.1:8765", "[fe80::1]:9"])
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    """`str` gives what `parse_listen` takes."""
    assert str(parse_listen(text)) == text


def test_the_wildcards_are_known() -> None:
    """0.0.0.0 and :: cannot be dialed, a real address can."""
    assert TcpListen("0.0.0.0", 1).is_wildcard
    assert TcpListen("::", 1).is_wildcard
    assert not TCP.is_wildcard


@pytest.mark.parametrize(
    ("listen", "number", "kind", "part"),
    [
        (TCP, errno.EADDRINUSE, PortTakenError, "Port 8765 on 127.0.0.1 is in use by "),
        (TCP, errno.EADDRINUSE, PortTakenError, "stop that program, or give --listen another port"),
        (UnixListen(Path("/x/hub.sock")), errno.EADDRINUSE, PortTakenError, "/x/hub.sock is in use by another"),
        (TCP, errno.EADDRNOTAVAIL, UsageError, "127.0.0.1:8765 is not an address of this machine: give --listen"),
        (TCP, errno.EACCES, UsageError, "This user may not listen at 127.0.0.1:8765: give --listen another one"),
        (TCP, errno.ENOMEM, ClusterError, "The head cannot listen at 127.0.0.1:8765: Cannot allocate memory. Give"),
    ],
)
def test_each_failure_says_what_to_do(listen: Listen, number: int, kind: type[RaycolabError], part: str) -> None:
    """The operating system's error becomes the sentence of whoever can act."""
    failure = bind_failure(listen, OSError(number, os.strerror(number)))
    assert type(failure) is kind
    assert part in str(failure)


def test_an_unknown_host_is_a_usage_error() -> None:
    """A name that does not resolve was mistyped."""
    failure = bind_failure(TcpListen("no.such", 1), socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    assert type(failure) is UsageError
    assert (
        str(failure) == "no.such:1 cannot be listened on: no such host is known here. Use an address of this machine."
    )
