"""The provider for a head behind NAT: ngrok's edge takes joiners' WebSockets to the hub, by pyngrok.

This is the only module that imports pyngrok, and it does so when the agent starts. pyngrok would put the authtoken in
the agent's argv, and the agent repeats a refused one on stderr and in its log. So the token goes into a private config
file, a two-line launcher drops stderr, and pyngrok's copy of the agent's log goes nowhere.

Also here is what ngrok's error codes mean for the person at the keyboard: one sentence each, with the cure. The code
(`ERR_NGROK_105`) is ngrok's stable identifier; its text changes and may repeat the authtoken, so it is not shown.
Sources: https://ngrok.com/docs/errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import yaml

from raycolab.errors import ClusterError, RaycolabError, UsageError
from raycolab.files import write_private
from raycolab.providers.direct import websocket_url
from tunnel.listen import Listen, TcpListen

if TYPE_CHECKING:
    from pyngrok.conf import PyngrokConfig
    from pyngrok.log import NgrokLog
    from pyngrok.process import NgrokProcess

__all__ = [
    "AGENT_PATH_VARIABLE",
    "DOMAIN_NOT_OURS",
    "STILL_ONLINE",
    "TOKEN_PAGE",
    "TOKEN_VARIABLE",
    "NgrokProvider",
    "edge_sentence",
    "ngrok_code",
    "ngrok_sentence",
]

TOKEN_VARIABLE = "NGROK_AUTHTOKEN"
AGENT_PATH_VARIABLE = "PYNGROK_NGROK_PATH"

START_TIMEOUT_S = 30  # until ngrok's edge has accepted the agent, which itself retries without end
REQUEST_TIMEOUT_S = 15.0  # one request to the agent's local API, which asks the edge
DOWNLOAD_TIMEOUT_S = 180.0  # of the agent, about 12 MB
# A dead head's address is free again once ngrok has noticed, 5 to 10 s later as people report.
ONLINE_PATIENCE_S = 45.0
ONLINE_RETRY_S = 3.0
STOP_TIMEOUT_S = 5.0  # the agent tells the edge that it leaves, which frees the address at once
WATCH_INTERVAL_S = 0.5  # between two looks at whether the agent lives
ERROR_CHARACTERS = 200  # of an agent's error that a person is shown
LOG_LINES = 20  # of the agent, kept by pyngrok; each is read as it comes

LAUNCHER = """#!/bin/sh
# Starts the ngrok agent, which repeats a refused authtoken on stderr: that must reach no log.
unset NGROK_AUTHTOKEN NGROK_API_KEY
exec {agent} "$@" 2>/dev/null
"""
DOWNLOAD = "import sys; from pyngrok import installer; installer.install_ngrok(sys.argv[1])"

TOKEN_PAGE = "https://dashboard.ngrok.com/get-started/your-authtoken"
DIRECT = "start the head with --provider direct where joiners can reach it"
NOT_OURS = (
    "This ngrok account does not own the address that --url names: take one listed at"
    " https://dashboard.ngrok.com/domains, or leave --url out and ngrok gives the account's own."
)

DOMAIN_NOT_OURS = frozenset({"ERR_NGROK_313", "ERR_NGROK_314", "ERR_NGROK_319", "ERR_NGROK_320"})
"""The codes for an address that the account may not open (another plan, another account, never reserved)."""

STILL_ONLINE = "ERR_NGROK_334"
"""The code for an address that another agent has, or had when it died: ngrok frees it within seconds."""

TOO_MANY_REQUESTS = (
    "ngrok holds this account back because it made too many requests in a short time: wait a minute and try again; the"
    " limit resets by itself."
)
TOO_OLD = (
    "The ngrok agent on this machine is too old for ngrok's service: delete it (PYNGROK_NGROK_PATH, or"
    " ~/.config/ngrok/ngrok) and start the head again, which downloads the current one."
)

SENTENCES = {
    "ERR_NGROK_105": (
        f"ngrok says that what was given is no authtoken: copy it again from {TOKEN_PAGE} into NGROK_AUTHTOKEN and"
        " start the head again."
    ),
    "ERR_NGROK_107": (
        "ngrok no longer accepts this authtoken, which was reset or revoked: copy the current one from"
        f" {TOKEN_PAGE} into NGROK_AUTHTOKEN and start the head again."
    ),
    "ERR_NGROK_4018": (
        "ngrok needs a verified account and its authtoken: sign up at https://dashboard.ngrok.com/signup, put the token"
        f" from {TOKEN_PAGE} into NGROK_AUTHTOKEN and start the head again."
    ),
    "ERR_NGROK_108": (
        "This ngrok account already runs as many agents as its plan allows: shut another head down, or stop an agent at"
        " https://dashboard.ngrok.com/agents, and start this head again."
    ),
    "ERR_NGROK_120": TOO_OLD,
    "ERR_NGROK_121": TOO_OLD,
    "ERR_NGROK_334": (
        "This ngrok address is already online: another head of this account uses it, or one that just died still holds"
        " it. Shut the other one down (https://dashboard.ngrok.com/agents lists it), or wait a minute, and start this"
        " head again."
    ),
    "ERR_NGROK_725": (
        "This ngrok account has used up its traffic for the month: wait for the next one, look at"
        f" https://dashboard.ngrok.com/billing, or {DIRECT}."
    ),
    "ERR_NGROK_727": (
        "This ngrok account has used up its requests for the month: wait for the next one, look at"
        f" https://dashboard.ngrok.com/billing, or {DIRECT}."
    ),
    "ERR_NGROK_702": TOO_MANY_REQUESTS,
    "ERR_NGROK_734": TOO_MANY_REQUESTS,
    "ERR_NGROK_3200": (
        "Nothing is online at this ngrok address: the head is not running, or it has a new address. Start it, and use"
        " the join address it prints."
    ),
    "ERR_NGROK_8012": (
        "ngrok reached the head's machine and nothing listens behind the tunnel: the head is still starting or has"
        " ended. Wait for its join address, or start it again."
    ),
    "ERR_NGROK_8013": (
        "ngrok opens this kind of endpoint only for accounts with a payment card on file: leave --url out, because"
        " raycolab needs only the HTTPS endpoint that every account has."
    ),
    **dict.fromkeys(DOMAIN_NOT_OURS, NOT_OURS),
}

log = logging.getLogger("raycolab.ngrok")


@dataclass(frozen=True, slots=True)
class _Refused:
    """An endpoint that the agent did not open, with ngrok's code where it gave one."""

    code: str | None


class NgrokProvider:
    """An HTTPS endpoint at ngrok for the hub's local port, at the remembered domain if there is one."""

    name = "ngrok"
    free_month_bytes = 1_000_000_000  # of the free plan, out of the edge in either direction; its pricing page

    def __init__(
        self,
        *,
        token: str,
        run_dir: Path,
        url: str | None,
        remembered: Mapping[str, str],
        agent_path: Path | None,
        start_timeout_s: int = START_TIMEOUT_S,
        online_patience_s: float = ONLINE_PATIENCE_S,
    ) -> None:
        if not token:
            raise UsageError(
                f"ngrok needs your authtoken: copy it from {TOKEN_PAGE} into the environment variable NGROK_AUTHTOKEN,"
                " or choose --provider direct."
            )
        self._token = token
        self._config_path = run_dir / "ngrok.yml"
        # pyngrok knows its processes by this path: one of its own for each head.
        self._launcher = run_dir / "ngrok"
        self._agent_path = agent_path
        # An address asked for with --url is required; a remembered one may be gone (another account, another plan).
        self._asked_domain = urlsplit(websocket_url(url)).netloc if url is not None else None
        self._domain = self._asked_domain or remembered.get("domain")
        self._start_timeout_s = start_timeout_s
        self._online_patience_s = online_patience_s
        self._agent = agent_path  # what the launcher starts
        self._process: NgrokProcess | None = None
        self._config: PyngrokConfig | None = None
        self._established = False  # the agent's session with the edge stood at least once
        self._last_error = ""  # of the agent, the token taken out
        self._abandoned = False  # the start was given up, so what still comes of it is ended

    async def prepare(self) -> Listen:
        """A free loopback port; the agent is there, downloaded if it has to be."""
        agent = self._agent = self._agent_path or await self._default_agent()
        if not os.access(agent, os.X_OK):
            raise UsageError(f"PYNGROK_NGROK_PATH names {agent}, which is no program: correct it, or unset it.")
        agent_options = {
            "authtoken": self._token,
            "inspect_db_size": -1,
            "update_check": False,
            "console_ui": False,
        }
        write_private(self._config_path, yaml.safe_dump({"version": 3, "agent": agent_options}))
        write_private(self._launcher, LAUNCHER.format(agent=shlex.quote(str(agent))))
        self._launcher.chmod(0o700)
        return TcpListen("127.0.0.1", 0)

    async def open(self, bound: Listen) -> str:
        """Start the agent and open the endpoint; raises ClusterError with ngrok's reason as a sentence."""
        if not isinstance(bound, TcpListen):
            raise TypeError(f"an ngrok provider needs a TCP address, not {bound}")
        await self._launch()
        public_url = await self._connected(f"http://{bound}")
        self._domain = urlsplit(public_url).netloc
        return websocket_url(public_url)

    async def wait_lost(self) -> str:
        """Return when the agent's process has ended; `open` starts another."""
        while self._is_alive():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(WATCH_INTERVAL_S)
        code = ngrok_code(self._last_error)
        cause = ngrok_sentence(code) if code else None
        if cause is not None:
            return cause
        status = self._process.proc.returncode if self._process is not None else None
        return f"The ngrok agent ended (exit status {status}): joiners cannot get through until it is started again."

    async def close(self) -> None:
        """Ask the agent to end, which frees its address at once, and remove the file with the token."""
        if self._process is not None:
            await asyncio.to_thread(self._stop)
            self._process = None
        self._config_path.unlink(missing_ok=True)
        self._launcher.unlink(missing_ok=True)

    def remember(self) -> dict[str, str]:
        """The domain, so that a restarted head has the same URL."""
        return {"domain": self._domain} if self._domain is not None else {}

    async def _default_agent(self) -> Path:
        """pyngrok's own copy of the agent, downloaded if it is missing."""
        from pyngrok import conf

        agent = Path(conf.DEFAULT_NGROK_PATH)
        if os.access(agent, os.X_OK):
            return agent
        # In a process of its own, because pyngrok prints to stdout and unpacks in a shared temporary folder.
        download = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", DOWNLOAD, str(agent)),
            env={**os.environ, "TMPDIR": str(self._config_path.parent)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(DOWNLOAD_TIMEOUT_S):
                await download.wait()
        except TimeoutError:
            pass
        finally:
            if download.returncode is None:
                download.kill()
                await download.wait()
        if download.returncode != 0 or not os.access(agent, os.X_OK):
            raise ClusterError(
                "The ngrok agent is not on this machine and could not be downloaded: check that this session reaches"
                " the internet, or install ngrok and set PYNGROK_NGROK_PATH to it, or choose --provider direct."
            )
        return agent

    async def _launch(self) -> None:
        """Start the agent within a time limit; pyngrok's own does not hold while it waits for the agent's next line."""
        self._process, self._established, self._last_error, self._abandoned = None, False, "", False
        starting = asyncio.create_task(asyncio.to_thread(self._start))
        try:
            async with asyncio.timeout(self._start_timeout_s + 1):
                self._process = await asyncio.shield(starting)
        except TimeoutError:
            self._kill_agent()
            with contextlib.suppress(RaycolabError):
                await starting
            raise self._not_ready() from None
        except asyncio.CancelledError:
            self._abandoned = True
            self._kill_agent()
            starting.add_done_callback(lambda task: task.cancelled() or task.exception())
            raise

    def _start(self) -> NgrokProcess:
        """Blocking: start the agent and wait until ngrok's edge has accepted it."""
        from pyngrok import ngrok
        from pyngrok.conf import PyngrokConfig
        from pyngrok.exception import PyngrokError

        agent_log = logging.getLogger("pyngrok.process.ngrok")  # it repeats a refused token
        agent_log.propagate, agent_log.handlers = False, [logging.NullHandler()]
        self._config = PyngrokConfig(
            ngrok_path=str(self._launcher),
            config_path=str(self._config_path),
            startup_timeout=self._start_timeout_s,
            request_timeout=REQUEST_TIMEOUT_S,
            max_logs=LOG_LINES,
            log_event_callback=self._read_log,
        )
        # pyngrok takes it from the environment, and would put it in the agent's argv.
        self._config.auth_token = None
        try:
            process = ngrok.get_ngrok_process(self._config)
        except (PyngrokError, OSError):
            # Not `from error`: what ngrok wrote may hold the token, and tracebacks get shown and shared.
            raise self._not_ready() from None
        if self._abandoned:
            ngrok.kill(self._config)
        return process

    async def _connected(self, upstream: str) -> str:
        """Open the endpoint, give its public URL; ends the agent when that fails."""
        from pyngrok import ngrok

        deadline = asyncio.get_running_loop().time() + self._online_patience_s
        while True:
            result = await asyncio.to_thread(self._connect, upstream)
            if isinstance(result, str):
                return result
            code = result.code
            if code != STILL_ONLINE or asyncio.get_running_loop().time() >= deadline:
                await asyncio.to_thread(ngrok.kill, self._config)
                raise _refusal(code)
            log.info("the address is still online at ngrok; trying again for %g s", self._online_patience_s)
            await asyncio.sleep(min(ONLINE_RETRY_S, self._online_patience_s))
            if not self._is_alive():  # pyngrok would start another one behind our back
                raise ClusterError(await self.wait_lost())

    def _connect(self, upstream: str) -> str | _Refused:
        """Blocking: try to open the endpoint once. Returned and not raised: what pyngrok raises may hold the token."""
        from pyngrok.exception import PyngrokError

        try:
            try:
                return self._endpoint(upstream, self._domain)
            except PyngrokError as error:
                if self._asked_domain is not None or _body_code(error) not in DOMAIN_NOT_OURS:
                    raise
                return self._endpoint(upstream, None)
        except (PyngrokError, OSError) as error:
            return _Refused(_body_code(error))

    def _endpoint(self, upstream: str, domain: str | None) -> str:
        from pyngrok import ngrok

        options: dict[str, Any] = {"upstream": {"url": upstream}}
        if domain is not None:
            options["url"] = f"https://{domain}"
        return str(ngrok.connect(name="raycolab", pyngrok_config=self._config, **options).public_url)

    def _read_log(self, line: NgrokLog) -> None:
        """Every log line of the agent, on pyngrok's threads."""
        if line.err and line.err != "nil":
            self._last_error = line.err.replace(self._token, "(authtoken)")
        elif line.msg and "client session established" in line.msg:
            self._established, self._last_error = True, ""

    def _not_ready(self) -> ClusterError:
        """The sentence for an agent that did not start."""
        code = ngrok_code(self._last_error)
        if code is not None:
            return _refusal(code)
        if self._last_error:
            return ClusterError(
                "The ngrok agent could not reach ngrok's service: check that this session reaches the internet"
                " (connect.ngrok-agent.com, port 443), or choose --provider direct. The agent said:"
                f" {_first_line(self._last_error)}"
            )
        what = (
            "is too old for pyngrok (it needs 3.30 or newer)"
            if self._established
            else "ended or stayed silent, so it may be no ngrok agent of version 3"
        )
        cure = (
            "delete that file and start the head again, which downloads the current one"
            if self._agent_path is None
            else "set PYNGROK_NGROK_PATH to a current one, or unset it and one is downloaded"
        )
        return ClusterError(f"The ngrok agent {self._agent} {what}: {cure}.")

    def _is_alive(self) -> bool:
        return self._process is not None and self._process.proc.poll() is None

    def _kill_agent(self) -> None:
        """End an agent that is still starting; pyngrok, which waits for its next log line, then gives up."""
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if str(self._config_path) in child.cmdline():
                    child.kill()

    def _stop(self) -> None:
        """Blocking: SIGTERM first."""
        from pyngrok import ngrok

        if self._process is not None:
            self._process.proc.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.proc.wait(STOP_TIMEOUT_S)
        ngrok.kill(self._config)


def _refusal(code: str | None) -> ClusterError:
    """The sentence for what ngrok refused."""
    sentence = ngrok_sentence(code) if code else None
    if sentence is None and code is not None:
        page = f"https://ngrok.com/docs/errors/{code.lower()}"
        sentence = f"ngrok refused with {code}: {page} says what to do; then start the head again."
    return ClusterError(
        sentence
        or "The ngrok agent gave no address in time, and no reason:"
        " look at https://status.ngrok.com, then start the head again."
    )


def _body_code(error: Exception) -> str | None:
    """The code in the answer of the agent's local API."""
    return ngrok_code(str(getattr(error, "body", "")))


def _first_line(text: str) -> str:
    """The first line of an agent's error, whose line breaks come as backslash and letter."""
    return text.replace("\\r", "").replace("\\n", "\n").strip().partition("\n")[0][:ERROR_CHARACTERS]


def ngrok_code(text: str) -> str | None:
    """The error code in what ngrok wrote, such as `ERR_NGROK_105`."""
    found = re.search(r"ERR_NGROK_\d+", text)
    return found.group(0) if found else None


def ngrok_sentence(code: str) -> str | None:
    """The sentence for a code, or None for one that is not in the table."""
    sentence = SENTENCES.get(code)
    return None if sentence is None else f"{sentence} ({code})"


def edge_sentence(headers: Mapping[str, str]) -> str | None:
    """What ngrok's edge says in the headers (lower case) of its answer to a joiner; None when it is not ngrok's."""
    code = ngrok_code(headers.get("ngrok-error-code", ""))
    if code is None:
        return None
    page = f"https://ngrok.com/docs/errors/{code.lower()}"
    return ngrok_sentence(code) or f"ngrok did not let this machine through to the head ({code}): {page} says why."
