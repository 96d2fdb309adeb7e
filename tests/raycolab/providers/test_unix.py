"""The unix provider: which path it binds and how it refuses one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raycolab.errors import ClusterError, UsageError
from raycolab.providers.unix import UnixProvider
from tests.in_loop import in_loop
from tunnel.listen import TcpListen, UnixListen


def unix(listen: str | None, run_dir: Path, remembered: dict[str, str] | None = None) -> UnixProvider:
    """A provider, most of it as by default."""
    return UnixProvider(listen=listen, run_dir=run_dir, remembered=remembered or {})


def mode(path: Path) -> int | None:
    """Who may use a file or folder; None without one."""
    return path.stat().st_mode & 0o777 if path.exists() else None


@in_loop
async def test_the_default_is_a_socket_in_the_run_directory(tmp_path: Path) -> None:
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


def test_the_length_counts_bytes(tmp_path: Path) -> None:
    """A path of 60 characters can have 119 bytes."""
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


@in_loop
async def test_a_tcp_address_is_a_callers_mistake(tmp_path: Path) -> None:
    """The supervisor cannot hand a unix provider a TCP address."""
    with pytest.raises(TypeError):
        await unix(None, tmp_path).open(TcpListen("127.0.0.1", 1))
