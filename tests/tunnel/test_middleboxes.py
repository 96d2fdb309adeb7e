"""Real nginx and real haproxy as the edge between agents and a hub, with their own buffers and timeouts.

The configurations have what a WebSocket needs and no more. Where a test says so, `timeout` is shortened to a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import random
import signal
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.in_loop import in_loop
from tests.programs import needs
from tests.tunnel.mesh import Member, Mesh, echo, eventually
from tunnel.address import JoinAddress
from tunnel.hub import Hub
from tunnel.listen import TcpListen

SIZE = 24 * 1024 * 1024
CHUNK = 1024 * 1024
IDLE_S = 75.0  # longer than proxy_read_timeout's default of 60 s

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{hub};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            {extra}
        }}
    }}
}}
"""

# The timeouts are those of the first example in haproxy's configuration manual (section 2.7).
HAPROXY = """
global
    maxconn 100
defaults
    mode http
    timeout connect 5000ms
    timeout client {idle}
    timeout server {idle}
    {extra}
frontend edge
    bind 127.0.0.1:{port}
    default_backend hub
backend hub
    server hub 127.0.0.1:{hub}
"""


@dataclass(slots=True)
class Middlebox:
    """A running nginx or haproxy."""

    program: str
    arguments: list[str]
    port: int
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Run it until it accepts."""
        self.process = await asyncio.create_subprocess_exec(self.program, *self.arguments)
        await eventually(self._accepts)

    async def stop(self) -> None:
        """End it at once, with its connections."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        await self.process.wait()

    async def restart(self) -> None:
        """End it, and start it again."""
        await self.stop()
        await self.start()

    def _accepts(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


def nginx(folder: Path, port: int, hub: int, *, brief: bool) -> Middlebox:
    """nginx as its documentation of WebSocket proxying says; `brief`: it drops what is idle for a second."""
    extra = "proxy_read_timeout 1s; proxy_send_timeout 1s;" if brief else ""
    conf = folder / "nginx.conf"
    conf.write_text(NGINX.format(folder=folder, port=port, hub=hub, extra=extra))
    return Middlebox(needs("nginx"), ["-p", str(folder), "-c", str(conf), "-e", f"{folder}/error.log"], port)


def haproxy(folder: Path, port: int, hub: int, *, brief: bool) -> Middlebox:
    """haproxy as its manual's first example says; `brief`: it drops what is idle for a second."""
    conf = folder / "haproxy.cfg"
    extra = "timeout tunnel 1s" if brief else ""
    conf.write_text(HAPROXY.format(port=port, hub=hub, idle="50000ms", extra=extra))
    return Middlebox(needs("haproxy"), ["-db", "-f", str(conf)], port)


KINDS = [nginx, haproxy]
Kind = Callable[..., Middlebox]


class TcpMesh(Mesh):
    """A mesh whose hub listens on TCP, as behind a middlebox on the same machine."""

    async def start(self) -> None:
        """Start the hub at a port of the system's choice."""
        self.hub = Hub(self.identity, self.log, ports=8, grace_s=self.grace_s, machine=self.machine)
        bound = await self.hub.start(TcpListen("127.0.0.1", 0))
        assert isinstance(bound, TcpListen)
        self.bound = bound


@dataclass(slots=True)
class Behind:
    """A mesh whose two agents came through a middlebox."""

    mesh: Mesh
    box: Middlebox
    one: Member
    two: Member

    @property
    def downs(self) -> int:
        """How often a WebSocket of one of them ended."""
        return self.one.log.count("down") + self.two.log.count("down")

    def dropped(self, before: int) -> bool:
        """More WebSockets ended than those."""
        return self.downs > before

    def nobody_left(self) -> None:
        """They are the nodes they were."""
        assert self.mesh.log.count("left") == self.one.log.count("left") == self.two.log.count("left") == 0


@contextlib.asynccontextmanager
async def behind(kind: Kind, folder: Path, *, brief: bool = False) -> AsyncIterator[Behind]:
    """Two agents that are ready, and the middlebox between them and the hub."""
    async with TcpMesh(folder) as mesh:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        box = kind(folder, port, mesh.bound.port, brief=brief)
        await box.start()
        try:
            address = JoinAddress(f"ws://127.0.0.1:{port}", mesh.identity.pin, mesh.identity.secret)
            yield Behind(mesh, box, await mesh.join(address=address), await mesh.join(address=address))
            await asyncio.gather(*(member.leave() for member in mesh.members))
        finally:
            await box.stop()


async def there_and_back(there: Behind, target: tuple[int, int], size: int, middle: Callable[[], object]) -> None:
    """Random bytes from one to an `echo` at two, and back; `middle` is called once a third of them came back."""
    reader, writer = await there.mesh.dial(there.one, target)
    sent, came = hashlib.sha256(), hashlib.sha256()

    async def send() -> None:
        source = random.Random(size)
        for _ in range(size // CHUNK):
            chunk = source.randbytes(CHUNK)
            sent.update(chunk)
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()

    sending = asyncio.create_task(send())
    count, called = 0, False
    while data := await reader.read(CHUNK):
        came.update(data)
        count += len(data)
        if count > size // 3 and not called:
            called = True
            middle()
    await sending
    assert (count, came.digest()) == (size, sent.digest())
    writer.close()


@pytest.mark.parametrize("kind", KINDS)
class TestMiddleboxes:
    """What people put in front of a hub."""

    @in_loop
    async def test_streams_and_bulk_pass(self, kind: Kind, tmp_path: Path) -> None:
        """Agents join, 24 MB come back whole, and four other streams do at the same time; no WebSocket ends."""
        async with behind(kind, tmp_path) as there:
            target = await there.mesh.serve(there.two, echo)
            back = await there.mesh.serve(there.one, echo)
            small = [there.mesh.echoes(there.two, back) for _ in range(2)]
            small += [there.mesh.echoes(there.one, target) for _ in range(2)]
            await asyncio.gather(there_and_back(there, target, SIZE, lambda: None), *small)
            assert there.downs == 0
            there.nobody_left()

    @in_loop
    async def test_a_restart_in_mid_transfer_is_an_outage_nobody_sees(self, kind: Kind, tmp_path: Path) -> None:
        """Every WebSocket dies; the bytes are those that were sent, and no node was lost."""
        async with behind(kind, tmp_path) as there:
            target = await there.mesh.serve(there.two, echo)
            restarts: list[asyncio.Task[None]] = []
            restart = lambda: restarts.append(asyncio.create_task(there.box.restart()))  # noqa: E731
            await there_and_back(there, target, SIZE // 2, restart)
            await restarts[0]
            assert there.one.log.count("down") >= 1
            assert there.two.log.count("down") >= 1
            there.nobody_left()

    @in_loop
    async def test_one_that_drops_what_is_idle_for_a_second_is_survived(self, kind: Kind, tmp_path: Path) -> None:
        """Each drop is an outage that a stream outlives."""
        async with behind(kind, tmp_path, brief=True) as there:
            reader, writer = await there.mesh.dial(there.one, await there.mesh.serve(there.two, echo))
            for number in range(3):
                downs = there.downs
                await eventually(functools.partial(there.dropped, downs))
                writer.write(b"%d" % number)
                assert await reader.readexactly(1) == b"%d" % number
            writer.close()
            there.nobody_left()

    @pytest.mark.slow
    @in_loop
    async def test_an_idle_link_outlives_the_default_timeouts(self, kind: Kind, tmp_path: Path) -> None:
        """Our pings keep it alive: no WebSocket ends in more than a minute without a word."""
        async with behind(kind, tmp_path) as there:
            target = await there.mesh.serve(there.two, echo)
            await asyncio.sleep(IDLE_S)
            await there.mesh.echoes(there.one, target)
            assert there.downs == 0
            there.nobody_left()


@in_loop
async def test_nginx_reloads_without_an_outage(tmp_path: Path) -> None:
    """Old workers keep the WebSockets they have, new ones take who joins."""
    async with behind(nginx, tmp_path) as there:
        target = await there.mesh.serve(there.two, echo)
        assert there.box.process is not None
        reload = lambda: there.box.process.send_signal(signal.SIGHUP)  # noqa: E731
        await there_and_back(there, target, SIZE // 2, reload)
        assert there.downs == 0
        there.nobody_left()
