"""A joiner without Ray: a hub that is not there, and one that sends it away. Real sockets."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from raycolab.errors import ClusterError
from raycolab.node.joiner import JoinerOptions, JoinerSupervisor
from raycolab.node.messages import RunsTrial, written
from tests.in_loop import in_loop
from tunnel.address import JoinAddress, unix_url
from tunnel.hub import Hub
from tunnel.listen import UnixListen
from tunnel.nodes import Node
from tunnel.secure import HubIdentity


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of a short path, for sockets."""
    path = Path(tempfile.mkdtemp(prefix="rct-"))
    yield path
    shutil.rmtree(path)


class SendsAway:
    """A hub's application that has no room for anybody, and says so at once or once everyone listens for the node."""

    hub: Hub

    def __init__(self, *, at_once: bool = False) -> None:
        self._at_once = at_once
        self._going: list[asyncio.Task[None]] = []

    def admit(self, application: Mapping[str, Any]) -> Mapping[str, Any]:
        """Everybody."""
        return {}

    def node_joined(self, node: Node, application: Mapping[str, Any]) -> None:
        """Send it away, if at once."""
        if self._at_once:
            self._send_away(node)

    def node_ready(self, node: Node) -> None:
        """Send it away, if not yet."""
        if not self._at_once:
            self._send_away(node)

    def _send_away(self, node: Node) -> None:
        self._going.append(asyncio.create_task(self.hub.remove(node.id, "there is no room here")))

    def node_left(self, node: Node, reason: str) -> None:
        """Nothing."""

    def message(self, node: Node, body: Mapping[str, Any]) -> None:
        """Nothing."""


@pytest.mark.parametrize("url", ["unix:///tmp/no-such-hub.sock", "ws://127.0.0.1:1"])
@in_loop
async def test_a_hub_that_is_not_there(tmp_path: Path, url: str) -> None:
    """Where it was looked for, what happened, and what to check."""
    said: list[str] = []
    joiner = JoinerSupervisor(
        JoinAddress(url, bytes(32), bytes(32)),
        JoinerOptions(reach_s=0.5),
        tmp_path,
        {},
        lambda _state, text: said.append(text),
    )
    with pytest.raises(ClusterError) as refused:
        await joiner.run()
    assert refused.value.exit_code == 3
    assert str(refused.value).startswith(f"The hub at {url} cannot be reached: ")
    assert str(refused.value).endswith(
        "Check that the head is running and that this machine can open that address, then try again."
    )
    assert said[0] == f"connecting to {url}"
    assert len(said) == 1 + url.startswith("ws:")


@in_loop
async def test_an_address_that_is_the_joiners_own_was_waited_for_in_silence(tmp_path: Path) -> None:
    """A head's 127.0.0.1 is another machine's too: said at once, while it is tried."""
    said: list[tuple[str, str]] = []
    joiner = JoinerSupervisor(
        JoinAddress("ws://127.0.0.1:1", bytes(32), bytes(32)),
        JoinerOptions(reach_s=0.5),
        tmp_path,
        {},
        lambda state, text: said.append((state, text)),
    )
    with pytest.raises(ClusterError):
        await joiner.run()
    assert said[1] == (
        "connecting",
        "127.0.0.1 is an address of this very machine, and nothing listens there. If the head runs on another one,"
        " start it with --listen at an address that this machine can reach; trying for 0.5 s",
    )


@in_loop
async def test_a_proxy_in_the_way_was_never_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its variable is, in the first line and in the last; what it holds may be a password."""
    monkeypatch.setenv("https_proxy", "http://user:word@127.0.0.1:1")
    said: list[str] = []
    address = JoinAddress("wss://head.example", bytes(32), bytes(32))
    joiner = JoinerSupervisor(address, JoinerOptions(reach_s=0.5), tmp_path, {}, lambda _state, text: said.append(text))
    with pytest.raises(ClusterError) as refused:
        await joiner.run()
    assert said == ["connecting to wss://head.example through the proxy that https_proxy names"]
    assert "(through the proxy that https_proxy names; to go without it, add head.example to the" in str(refused.value)
    assert "word" not in str(refused.value)


@pytest.mark.parametrize("at_once", [True, False])
@in_loop
async def test_a_node_that_is_sent_away_is_told_why(folder: Path, at_once: bool) -> None:
    """That is no failure, not even before it was a node that others reach: `raycolab join` ends with 0."""
    sender, identity = SendsAway(at_once=at_once), HubIdentity.create(time.time())
    sender.hub = hub = Hub(identity, sender, ports=8)
    listen = await hub.start(UnixListen(folder / "hub.sock"))
    address = JoinAddress(unix_url(str(listen)), identity.pin, identity.secret)
    said: list[str] = []
    joiner = JoinerSupervisor(address, JoinerOptions(name="tab"), folder, {}, lambda _state, text: said.append(text))
    try:
        assert await joiner.run() == "there is no room here"
    finally:
        await hub.close("done", final=True)
    assert said == [f"connecting to {address.url}", "joined as tab", "there is no room here"]


@in_loop
async def test_a_name_that_is_taken_is_told(folder: Path) -> None:
    """The node gets one of the hub's own making."""
    sender, identity = SendsAway(), HubIdentity.create(time.time())
    sender.hub = hub = Hub(identity, sender, ports=8, name="head", prefix="joiner")
    listen = await hub.start(UnixListen(folder / "hub.sock"))
    address = JoinAddress(unix_url(str(listen)), identity.pin, identity.secret)
    said: list[str] = []
    joiner = JoinerSupervisor(address, JoinerOptions(name="head"), folder, {}, lambda _state, text: said.append(text))
    try:
        await joiner.run()
    finally:
        await hub.close("done", final=True)
    assert "joined as joiner-1: another node is called 'head'" in said


class NamesATrial(SendsAway):
    """Says which trial the node runs before it sends the node away."""

    def node_ready(self, node: Node) -> None:
        """Name the trial first."""
        self.hub.message(node.id, written(RunsTrial("#7 svc x iris")))
        super().node_ready(node)


@in_loop
async def test_a_node_knows_the_trial_it_runs_from_its_head(folder: Path) -> None:
    """For its own panel, until it is no node any more."""
    sender, identity = NamesATrial(), HubIdentity.create(time.time())
    sender.hub = hub = Hub(identity, sender, ports=8)
    listen = await hub.start(UnixListen(folder / "hub.sock"))
    address = JoinAddress(unix_url(str(listen)), identity.pin, identity.secret)
    shown: list[str | None] = []
    joiner = JoinerSupervisor(address, JoinerOptions(), folder, {}, lambda _state, _text: shown.append(joiner.trial))
    try:
        await joiner.run()
    finally:
        await hub.close("done", final=True)
    assert shown == [None, None, "#7 svc x iris"]
    assert joiner.trial is None


def test_a_minute_is_what_the_command_line_waits() -> None:
    """The contract's number."""
    assert JoinerOptions().reach_s == 60.0
