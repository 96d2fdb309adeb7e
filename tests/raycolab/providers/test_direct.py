"""The providers that need nobody in between: what they bind, what joiners dial, what is remembered and refused."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from raycolab.errors import ClusterError, UsageError
from raycolab.providers.direct import DirectProvider, UnixProvider, loopback_note, own_address, websocket_url
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


@pytest.mark.parametrize(
    ("listen", "given", "bound", "url"),
    [
        ("127.0.0.1:0", None, TcpListen("127.0.0.1", 4321), "ws://127.0.0.1:4321"),
        ("localhost:0", None, TcpListen("127.0.0.1", 4321), "ws://localhost:4321"),
        ("[::1]:7", None, TcpListen("::1", 7), "ws://[::1]:7"),
        ("0.0.0.0:7", "https://head.example/hub", TcpListen("0.0.0.0", 7), "wss://head.example/hub"),
    ],
    ids=["the port the hub got", "the host that was typed", "IPv6", "a proxy"],
)
@in_loop
async def test_what_joiners_dial(listen: str, given: str | None, bound: TcpListen, url: str) -> None:
    """A given URL before anything else, then the name that was typed, with the port that was bound."""
    assert await direct(listen, given).open(bound) == url


@in_loop
async def test_direct_gave_an_address_that_no_other_machine_can_dial() -> None:
    """Without `listen` it is the one by which this machine reaches its network; loopback where there is none."""
    bound = await direct().prepare()
    assert isinstance(bound, TcpListen)
    assert bound.host == own_address()
    others = [each.address for name, of in psutil.net_if_addrs().items() for each in of if not name.startswith("lo")]
    assert bound.host in [*others, "127.0.0.1"]
    has_network = any(each.count(".") == 3 and not each.startswith(("127.", "169.254.")) for each in others)
    assert bound.host != "127.0.0.1" or not has_network


@pytest.mark.parametrize(
    ("url", "is_said"),
    [
        *(("ws://127.0.0.1:8", True), ("ws://localhost:8", True), ("ws://[::1]:8", True)),
        *(("ws://192.0.2.7:8", False), ("wss://head.example", False), ("unix:///tmp/hub", False)),
    ],
)
def test_an_address_for_this_machine_alone_is_said_to_be_one(url: str, is_said: bool) -> None:
    """By the head, which knows no more than its address."""
    assert (loopback_note(url) is not None) is is_said


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


def unix(listen: str | None, run_dir: Path, remembered: dict[str, str] | None = None) -> UnixProvider:
    """A provider, most of it as by default."""
    return UnixProvider(listen=listen, run_dir=run_dir, remembered=remembered or {})


def mode(path: Path) -> int | None:
    """Who may use a file or folder; None without one."""
    return path.stat().st_mode & 0o777 if path.exists() else None


@in_loop
async def test_the_default_path_is_a_socket_in_the_run_directory(tmp_path: Path) -> None:
    """Without a path the socket is private to the head."""
    assert await unix(None, tmp_path).prepare() == UnixListen(tmp_path / "hub.sock")


@in_loop
async def test_a_remembered_path_comes_back_with_its_folder(tmp_path: Path) -> None:
    """A restarted head has the same path though its old run directory is gone."""
    first = unix(None, tmp_path / "gone")
    await first.open(await first.prepare())
    second = unix(None, tmp_path / "new", first.remember())
    assert await second.prepare() == UnixListen(tmp_path / "gone" / "hub.sock")
    assert mode(tmp_path / "gone") == 0o700


@in_loop
async def test_a_folder_made_again_goes_with_the_head(tmp_path: Path) -> None:
    """What a former head's path needed is not left behind; the run directory is its owner's to remove."""
    first = unix(None, tmp_path / "gone")
    await first.open(await first.prepare())
    second = unix(None, tmp_path / "new", first.remember())
    await first.close()
    assert mode(tmp_path / "gone") == 0o700
    await second.open(await second.prepare())
    await second.close()
    assert mode(tmp_path / "gone") is None


@in_loop
async def test_a_given_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL must mean the same in every folder."""
    monkeypatch.chdir(tmp_path)
    provider = unix("a b.sock", tmp_path)
    assert await provider.open(await provider.prepare()) == f"unix://{tmp_path}/a%20b.sock"


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """107 bytes fit into a socket address, 108 do not."""
    longest = "/" + "x" * 106
    unix(longest, tmp_path)
    with pytest.raises(UsageError, match="has 108 bytes and Linux takes 107 at most: give --listen a shorter one"):
        unix(longest + "x", tmp_path)
    with pytest.raises(UsageError, match="119 bytes"):
        unix("/" + "ü" * 59, tmp_path)


@in_loop
async def test_a_given_path_in_no_folder_is_refused(tmp_path: Path) -> None:
    """Folders are not made where somebody may have mistyped."""
    with pytest.raises(
        UsageError, match=r"^--listen .*x\.sock: there is no folder .*absent\. Make it, or give another path"
    ):
        await unix(str(tmp_path / "absent" / "x.sock"), tmp_path).prepare()


@in_loop
async def test_a_remembered_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """/proc takes no folders, from root either."""
    with pytest.raises(ClusterError) as refused:
        await unix(None, tmp_path, {"path": "/proc/none/hub.sock"}).prepare()
    assert str(refused.value) == (
        "The folder /proc/none for the head's socket cannot be made (No such file or directory): give --listen a path."
    )


@in_loop
async def test_a_remembered_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    """Who was faster to make it again, where everybody may, could listen in the head's place."""
    theirs = Path("/") if os.getuid() else tmp_path / "theirs"
    if os.getuid() == 0:
        theirs.mkdir()
        os.chown(theirs, 65534, 65534)
    with pytest.raises(ClusterError) as refused:
        await unix(None, tmp_path, {"path": str(theirs / "hub.sock")}).prepare()
    assert str(refused.value) == f"The folder {theirs} belongs to another user: give --listen a path of your own."


@in_loop
async def test_a_file_in_the_way_is_refused_and_kept(tmp_path: Path) -> None:
    """Binding would remove it."""
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(UsageError, match="exists and is not a socket"):
        await unix(str(tmp_path / "notes"), tmp_path).prepare()
    assert (tmp_path / "notes").read_text() == "mine"


@in_loop
async def test_closing_removes_the_socket_only_once_it_is_ours(tmp_path: Path) -> None:
    """A provider that never opened leaves another head's socket alone."""
    socket = tmp_path / "hub.sock"
    socket.touch()
    provider = unix(None, tmp_path)
    await provider.close()
    assert mode(socket) is not None
    await provider.open(UnixListen(socket))
    await provider.close()
    assert mode(socket) is None
    assert provider.remember() == {}
