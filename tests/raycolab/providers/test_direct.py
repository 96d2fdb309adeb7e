"""The direct provider: what it binds, what joiners dial, what is remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

from raycolab.errors import UsageError
from raycolab.providers.direct import DirectProvider, websocket_url
from tests.in_loop import in_loop
from tunnel.listen import TcpListen, UnixListen


def direct(
    listen: str | None = None, url: str | None = None, remembered: dict[str, str] | None = None
) -> DirectProvider:
    """A provider, most of it as by default."""
    return DirectProvider(listen=listen, url=url, remembered=remembered or {})


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("ws://h:1", "ws://h:1"),
        ("http://h:1/", "ws://h:1"),
        ("https://h/path", "wss://h/path"),
        (" WSS://h ", "wss://h"),
        ("http://[::1]:8", "ws://[::1]:8"),
    ],
)
def test_an_http_address_is_a_websocket_address(typed: str, url: str) -> None:
    """What a proxy prints can be pasted as it is."""
    assert websocket_url(typed) == url


@pytest.mark.parametrize(
    "typed",
    [
        *("", "h:1", "ftp://h", "ws://", "ws://h:port", "ws://h:0", "ws://u:p@h", "ws://h?q"),
        *("ws://a b", "ws://[::1", "ws://h:99999999", "ws://\udcff"),
    ],
)
def test_an_address_nobody_can_dial_is_refused(typed: str) -> None:
    """Anything but a WebSocket's address is told how to be one."""
    with pytest.raises(UsageError, match="give the address joiners dial as ws://HOST:PORT or wss://HOST"):
        websocket_url(typed)


@in_loop
async def test_joiners_dial_the_port_the_hub_got() -> None:
    """Port 0 becomes the bound one."""
    assert await direct("127.0.0.1:0").open(TcpListen("127.0.0.1", 4321)) == "ws://127.0.0.1:4321"


@in_loop
async def test_joiners_dial_the_host_that_was_typed() -> None:
    """A name stays a name though the hub reports an address."""
    assert await direct("localhost:0").open(TcpListen("127.0.0.1", 4321)) == "ws://localhost:4321"


@in_loop
async def test_an_ipv6_url_has_brackets() -> None:
    """An IPv6 host is bracketed in the URL."""
    assert await direct("[::1]:7").open(TcpListen("::1", 7)) == "ws://[::1]:7"


@in_loop
async def test_a_given_url_goes_before_the_bound_address() -> None:
    """Joiners dial the proxy, not what it forwards to."""
    provider = direct("0.0.0.0:7", "https://head.example/hub")
    assert await provider.open(TcpListen("0.0.0.0", 7)) == "wss://head.example/hub"


@pytest.mark.parametrize("listen", ["0.0.0.0:7", "[::]:7"])
def test_a_wildcard_needs_a_url(listen: str) -> None:
    """Nobody can dial 0.0.0.0."""
    with pytest.raises(UsageError, match="nobody can dial: add --url ws://HOST:PORT"):
        direct(listen)


@in_loop
async def test_nothing_is_remembered_before_the_hub_listens() -> None:
    """Port 0 is not worth keeping, the bound one is."""
    provider = direct()
    assert provider.remember() == {}
    await provider.open(TcpListen("127.0.0.1", 4321))
    assert provider.remember() == {"port": "4321"}


@in_loop
async def test_a_socket_path_is_a_callers_mistake() -> None:
    """The supervisor cannot hand a direct provider a unix socket."""
    with pytest.raises(TypeError):
        await direct().open(UnixListen(Path("/x")))
