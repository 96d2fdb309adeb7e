"""A PostgreSQL server of a test's own: on a socket in a folder of its own, gone at the end of the block.

It is as fast as it can be (no fsync), so what it promises about a loss of power is not what these tests are about.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.programs import needs

__all__ = ["PostgresServer", "postgres_server"]

START_WITHIN_S = 30.0
OPTIONS = ("fsync=off", "full_page_writes=off", "shared_buffers=16MB", "max_connections=40")


class PostgresServer:
    """A server that can be stopped and started again."""

    def __init__(self, programs: Path, folder: Path, account: dict[str, Any], at: tuple[str, int] | None) -> None:
        self._programs = programs
        self._folder = folder
        self._account = account
        self._at = at or ("", 5432)
        self._process: subprocess.Popen[str] | None = None
        self._said: list[str] = []
        self.url = f"postgresql://raycolab@/postgres?host={folder}"

    def initialize(self, rules: str) -> None:
        """Makes its files; `rules` are lines of its pg_hba.conf, which says who may connect."""
        command = [str(self._programs / "initdb"), "-D", str(self._folder / "data"), "-U", "raycolab", "-A", "trust"]
        command += ["-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **self._account)
        assert done.returncode == 0, done.stderr
        with (self._folder / "data" / "pg_hba.conf").open("a") as file:
            file.write(rules)

    def start(self) -> None:
        """Returns when it takes connections."""
        command = [
            str(self._programs / "postgres"),
            "-D",
            str(self._folder / "data"),
            "-k",
            str(self._folder),
            "-h",
            self._at[0],
            "-p",
            str(self._at[1]),
        ]
        command += [word for option in OPTIONS for word in ("-c", option)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **self._account)
        ready = threading.Event()
        threading.Thread(target=self._listen, args=(self._process, ready), daemon=True).start()
        assert ready.wait(START_WITHIN_S), "\n".join(self._said)
        assert self._process.poll() is None, "\n".join(self._said)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Ends it: SIGINT breaks off what its clients are doing, SIGQUIT is a crash."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(timeout=30)

    def _listen(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                self._said.append(line.rstrip())
                if "ready to accept connections" in line:
                    ready.set()
        ready.set()  # it is gone: `start` says what it said


@contextlib.contextmanager
def postgres_server(at: tuple[str, int] | None = None, rules: str = "") -> Iterator[PostgresServer]:
    """A running server with an empty database, which also listens at an address and port."""
    programs = Path(needs("initdb")).resolve().parent  # `postgres` lies there too
    folder = Path(tempfile.mkdtemp(prefix="raycolab-pg-"))  # a socket's path is short, pytest's folders are not
    account: dict[str, Any] = {"cwd": "/"}
    try:
        if os.geteuid() == 0:  # PostgreSQL refuses root
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            account |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        server = PostgresServer(programs, folder, account, at)
        server.initialize(rules)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder)
