"""The doctor against a real hub, and in an environment where much will fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from raycolab.diagnostics.check import Finding, Verdict
from raycolab.diagnostics.network import join_address
from raycolab.node.messages import mismatch, versions
from tests.in_loop import in_loop
from tests.integration.sessions import RAYCOLAB
from tests.tunnel.mesh import NOW, HubLog
from tunnel.address import JoinAddress
from tunnel.errors import Refused
from tunnel.hub import Hub
from tunnel.listen import Listen, TcpListen
from tunnel.secure import HubIdentity

IDENTITY = HubIdentity.create(NOW)


class Head(HubLog):
    """A hub's application that compares versions, as a head's does, and notes who joins."""

    def admit(self, application: Any) -> dict[str, Any]:
        """Let in who has the versions of here."""
        sentence = mismatch(versions(), application.get("versions", {}))
        if sentence is not None:
            raise Refused("version", sentence)
        return {}


@contextlib.asynccontextmanager
async def head() -> AsyncIterator[tuple[Head, JoinAddress]]:
    """A head's hub with nothing behind it, and its join address."""
    application = Head()
    hub = Hub(IDENTITY, application, ports=8)
    bound: Listen = await hub.start(TcpListen("127.0.0.1", 0))
    try:
        yield application, JoinAddress(f"ws://{bound}", IDENTITY.pin, IDENTITY.secret)
        assert hub.peers == []
        assert application.events == []
    finally:
        await hub.close("over", final=True)


async def look(address: JoinAddress, **options: Any) -> Finding:
    """What the check finds, which waits in a thread of its own."""
    return await asyncio.to_thread(join_address, address, **options)


class TestAJoinAddress:
    """Whether a joiner would be let in; the head never hears of a node."""

    @in_loop
    async def test_all_is_well(self) -> None:
        """Certificate, secret and versions were seen to be right."""
        async with head() as (_, address):
            found = await look(address)
            assert found.verdict is Verdict.GOOD, found.message
            assert found.message.endswith("certificate, secret and versions are right.")

    @in_loop
    async def test_a_wrong_secret(self) -> None:
        """In the words that the joiner would get."""
        async with head() as (_, address):
            found = await look(JoinAddress(address.url, address.pin, bytes(32)))
            assert found.verdict is Verdict.BAD
            assert found.message.startswith("The secret in this join address is not the head's.")

    @in_loop
    async def test_a_wrong_certificate(self) -> None:
        """Nothing was told to whoever answers."""
        async with head() as (_, address):
            found = await look(JoinAddress(address.url, bytes(32), address.secret))
            assert found.verdict is Verdict.BAD
            assert found.message.startswith("The certificate at this address is not the one the join address names")

    @in_loop
    async def test_other_versions(self) -> None:
        """With the cure, before the session is set up any further."""
        async with head() as (_, address):
            found = await look(address, ours={**versions(), "ray": "1.0"})
            assert found.verdict is Verdict.BAD
            assert "this joiner 1.0, which cannot form one cluster: run `pip install ray==" in found.message

    def test_somebody_who_never_answers(self) -> None:
        """Costs its own time."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = JoinAddress(f"ws://127.0.0.1:{silent.getsockname()[1]}", bytes(32), bytes(32))
            found = join_address(address, limit_s=0.3)
            assert (found.verdict, "it does not answer" in found.message) == (Verdict.BAD, True)


def test_a_broken_environment(tmp_path: Path) -> None:
    """Everything that is wrong is found at once: JSON alone, exit code 1, no traceback, no token."""
    token = "ngrok config add-authtoken 2abcdefghijklm"
    long = tmp_path / "a-folder-for-temporary-files-with-a-long-path"
    long.mkdir()
    (tmp_path / "file").touch()
    ended = subprocess.run(
        ["sh", "-c", 'ulimit -n 300; exec "$@"', "sh", *RAYCOLAB, "doctor", "--json"],
        env={
            **os.environ,
            "NGROK_AUTHTOKEN": token,
            "RAYCOLAB_DATA_DIR": str(tmp_path / "file"),
            "TMPDIR": str(long),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (1, "")
    said = json.loads(ended.stdout)
    assert said["ok"] is False
    failing = {check["name"] for check in said["checks"] if not check["ok"]}
    assert {"open files", "temporary folder", "data directory", "ngrok"} <= failing
    assert "2abcdef" not in ended.stdout
