# ruff: noqa: T201 - a program of its own, whose output is what pyngrok reads
"""A stand-in for the ngrok agent, version 3, as pyngrok 9 drives it: command line, log, local API, forwarding.

It really forwards: an endpoint is a loopback port whose bytes go to the upstream. It talks to no service, so what
it says about accounts comes from its environment:

    STANDIN_NGROK_ERROR        an ERR_NGROK_ code. Of a session (105 106 107 108 121): the agent ends with it, as
                               the real one; of an address (313 314 319 320 334 8013): the local API answers with
                               it; "none": it answers with an error that has no code; any other: visitors of the
                               endpoint get it, as from ngrok's edge
    STANDIN_NGROK_OFFLINE      the edge cannot be reached: the agent logs that and tries on
    STANDIN_NGROK_OLD          an agent from before /api/endpoints (3.30)
    STANDIN_NGROK_DIE_AFTER_S  ends with exit status 1 that long after its session stands

Log lines and error texts follow ngrok's documentation and logs that people published. Standard library only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

VERSION = "3.39.8"
WEB_PORTS = range(4040, 4240)  # the real agent also takes the next one when 4040 is in use
CHUNK = 64 * 1024
HEAD_LIMIT = 64 * 1024
SESSION_CODES = {"ERR_NGROK_105", "ERR_NGROK_106", "ERR_NGROK_107", "ERR_NGROK_108", "ERR_NGROK_121"}
ADDRESS_CODES = {f"ERR_NGROK_{n}" for n in (313, 314, 319, 320, 334, 8013)}
TEXTS = {
    "ERR_NGROK_105": "The authtoken you specified does not look like an ngrok authtoken.\nYour authtoken: {token}",
    "ERR_NGROK_107": "The authtoken you specified is properly formed, but it is invalid.\nYour authtoken: {token}",
    "ERR_NGROK_108": "Your account is limited to 3 simultaneous ngrok agent sessions.",
    "ERR_NGROK_121": 'Your ngrok-agent version "2.0.0" is too old.',
    "ERR_NGROK_334": (
        "The endpoint 'https://standin.ngrok-free.dev' is already online. Either\n1. stop your existing endpoint first,"
        " or\n2. start both endpoints with `--pooling-enabled` to load balance between them."
    ),
    "ERR_NGROK_4018": (
        "Usage of ngrok requires a verified account and authtoken.\n\n"
        "Sign up for an account: https://dashboard.ngrok.com/signup"
    ),
}
REASONS = {200: "OK", 201: "Created", 204: "No Content", 400: "Bad Request", 404: "Not Found", 502: "Bad Gateway"}


def log(level: str, message: str, **fields: str) -> None:
    """One line of the agent's log, in logfmt."""
    words = [f"t={time.strftime('%Y-%m-%dT%H:%M:%S+0000', time.gmtime())}", f"lvl={level}", f"msg={logfmt(message)}"]
    print(*words, *(f"{name}={logfmt(value)}" for name, value in fields.items()), flush=True)


def logfmt(value: str) -> str:
    """A value as the agent writes it: quoted where it has to be, line breaks as backslash and letter."""
    return value if re.fullmatch(r"[\w.:/-]+", value) else json.dumps(value)


def error_text(code: str, token: str) -> str:
    """What ngrok says with a code, which for 105 to 107 has the token in it."""
    return f"{TEXTS.get(code, 'Something is not allowed.').format(token=token)}\r\n\r\n{code}\r\n"


@dataclass
class Endpoint:
    """One endpoint: its public listener and where it leads."""

    name: str
    url: str
    upstream: str
    server: asyncio.Server

    def to_json(self) -> dict[str, object]:
        """As the local API shows it."""
        uri = f"/api/endpoints/{self.name}"
        return {"name": self.name, "uri": uri, "url": self.url, "upstream": {"url": self.upstream}, "inspect": False}


@dataclass
class Agent:
    """The running agent."""

    token: str
    environ: Mapping[str, str]
    endpoints: dict[str, Endpoint] = field(default_factory=dict)

    @property
    def error(self) -> str:
        """The scripted error code, or nothing."""
        return self.environ.get("STANDIN_NGROK_ERROR", "")

    async def run(self) -> int:
        """Serve until told to stop; the exit status."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await self.serve_api()
        if "STANDIN_NGROK_OFFLINE" in self.environ:
            return await self.stay_offline(stop)
        refused = self.error if self.error in SESSION_CODES else "" if self.token else "ERR_NGROK_4018"
        if refused:
            return self.refuse(refused)
        log("info", "tunnel session started", obj="tunnels.session")
        log("info", "client session established", obj="csess", id="4b1ac0de")
        life = self.environ.get("STANDIN_NGROK_DIE_AFTER_S")
        try:
            async with asyncio.timeout(None if life is None else float(life)):
                await stop.wait()
        except TimeoutError:
            return 1
        log("info", "received stop request", obj="app", stopReq="{err:nil restart:false}")
        return 0

    async def stay_offline(self, stop: asyncio.Event) -> int:
        """Try to reach the edge once a second, in vain."""
        while not stop.is_set():
            message = 'failed to dial ngrok server with address "connect.ngrok-agent.com:443": dial tcp: lookup failed'
            log("eror", "failed to reconnect session", obj="tunnels.session", err=message)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1)
        return 0

    def refuse(self, code: str) -> int:
        """End as the real agent does when the edge refuses its session: in the log, and again on stderr."""
        text = f"authentication failed: {error_text(code, self.token)}"
        log("eror", "failed to auth", obj="tunnels.session", err=text)
        log("eror", "terminating with error", obj="app", err=text)
        log("crit", "command failed", err=text)
        print(*(f"ERROR:  {line}" for line in text.splitlines()), sep="\n", file=sys.stderr, flush=True)
        return 1

    async def serve_api(self) -> None:
        """Listen at the first free port from 4040."""
        for port in WEB_PORTS:
            with contextlib.suppress(OSError):
                server = await asyncio.start_server(self.answer_api, "127.0.0.1", port, reuse_address=False)
                address = server.sockets[0].getsockname()
                log("info", "starting web service", obj="web", addr=f"{address[0]}:{address[1]}", allow_hosts="[]")
                return
        raise SystemExit("no free port for the web service")

    async def answer_api(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request of the local API."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, _ = head.split("\r\n", 1)[0].split(" ", 2)
            length = re.search(r"(?im)^content-length:\s*(\d+)", head)
            body = json.loads(await reader.readexactly(int(length[1])) or b"{}") if length else {}
            status, answer = await self.api(method, path, body)
            content = b"" if status == 204 else json.dumps(answer).encode()
            writer.write(response(status, content, {"Content-Type": "application/json"}))
            await writer.drain()
        writer.close()

    async def api(self, method: str, path: str, body: dict[str, object]) -> tuple[int, dict[str, object]]:
        """What the local API answers."""
        collection, _, name = path.removeprefix("/api/").partition("/")
        if method == "GET" and path == "/api/status":
            return 200, {"status": "online", "agent_version": VERSION, "session": {"legs": []}, "uri": path}
        if collection != "endpoints" or "STANDIN_NGROK_OLD" in self.environ:
            return 404, {"msg": "not found"}
        if method == "GET" and not name:
            return 200, {"endpoints": [each.to_json() for each in self.endpoints.values()], "uri": path}
        if method == "GET" and name in self.endpoints:
            return 200, self.endpoints[name].to_json()
        if method == "DELETE" and name in self.endpoints:
            self.endpoints.pop(name).server.close()
            return 204, {}
        if method == "POST" and not name:
            return await self.create(body)
        return 404, {"msg": "not found"}

    async def create(self, body: dict[str, object]) -> tuple[int, dict[str, object]]:
        """Open an endpoint. Its host can only be this machine; another one is an address of somebody else."""
        upstream = body.get("upstream")
        if not isinstance(upstream, dict) or not isinstance(upstream.get("url"), str) or self.error == "none":
            return 400, {"error_code": 102, "status_code": 400, "msg": "invalid endpoint configuration"}
        if self.error in ADDRESS_CODES:
            return self.failed_to_start(self.error)
        wanted = urlsplit(str(body.get("url") or ""))
        if wanted.hostname not in {None, "127.0.0.1"}:
            return self.failed_to_start("ERR_NGROK_320")
        target = upstream["url"]

        async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.visit(target, reader, writer)

        try:
            server = await asyncio.start_server(visit, "127.0.0.1", wanted.port or 0)
        except OSError:
            return self.failed_to_start("ERR_NGROK_334")
        name, port = str(body.get("name")), server.sockets[0].getsockname()[1]
        self.endpoints[name] = Endpoint(name, f"http://127.0.0.1:{port}", target, server)
        log("info", "started tunnel", obj="tunnels", name=name, addr=target, url=self.endpoints[name].url)
        return 201, self.endpoints[name].to_json()

    def failed_to_start(self, code: str) -> tuple[int, dict[str, object]]:
        """The local API's answer when the edge refuses an address."""
        details = {"err": f"failed to start tunnel: {error_text(code, self.token)}"}
        return 502, {"error_code": 103, "status_code": 502, "msg": "failed to start tunnel", "details": details}

    async def visit(self, upstream: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One TCP connection of a visitor: its bytes to the upstream and back, or ngrok's error page."""
        log("info", "join connections", obj="join", id="0a", l=urlsplit(upstream).netloc, r="127.0.0.1:0")
        code = self.error if self.error not in SESSION_CODES | ADDRESS_CODES else ""
        try:
            if not code:
                where = urlsplit(upstream)
                far = await asyncio.open_connection(where.hostname, where.port)
                await asyncio.gather(pump(reader, far[1]), pump(far[0], writer))
        except OSError:
            code = code or "ERR_NGROK_8012"
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            if code:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(response(502, code.encode(), {"Ngrok-Error-Code": code}))
                await writer.drain()
        writer.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction until it ends."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
        return
    writer.close()


def response(status: int, body: bytes, headers: Mapping[str, str]) -> bytes:
    """A whole HTTP/1.1 answer."""
    fields = {**headers, "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {status} {REASONS[status]}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def main(arguments: list[str]) -> int:
    """The command line, as far as pyngrok uses it."""
    parser = argparse.ArgumentParser(prog="ngrok", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"ngrok version {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", allow_abbrev=False)
    start.add_argument("--none", action="store_true", required=True)
    start.add_argument("--log", choices=["stdout"], required=True)
    start.add_argument("--config", type=Path)
    start.add_argument("--authtoken", default="")
    options = parser.parse_args(arguments)
    configured = options.config.read_text() if options.config else ""
    found = re.search(r"(?m)^  authtoken: (\S+)$", configured)
    # The real agent takes its command line before its environment before its file.
    token = options.authtoken or os.environ.get("NGROK_AUTHTOKEN", "") or (found[1] if found else "")
    log("info", "open config file", path=str(options.config), err="nil")
    return asyncio.run(Agent(token, os.environ).run())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
