"""A head as its clients see it: a control socket that answers as a test says, and the record that leads to it."""

from __future__ import annotations

import contextlib
import json
import shutil
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from raycolab.node.data_dir import DataDir, HeadRecord, make_run_dir
from raycolab.store import sqlite_url

__all__ = ["scripted_head"]

Answer = Callable[[dict[str, Any]], dict[str, Any]]


@contextlib.contextmanager
def scripted_head(data_dir: Path, answer: Answer) -> Iterator[None]:
    """Requests to the head of this data directory get what `answer` gives, within the block."""

    class Asked(socketserver.StreamRequestHandler):
        """One request."""

        def handle(self) -> None:
            """Answer it; nothing comes from who only looks whether somebody listens."""
            if line := self.rfile.readline():
                self.wfile.write(json.dumps({"ok": True, **answer(json.loads(line))}).encode() + b"\n")

    folder, data = make_run_dir(), DataDir(data_dir)
    with socketserver.ThreadingUnixStreamServer(str(folder / "control"), Asked) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        data.save(HeadRecord(1, str(folder / "control"), 0.0, sqlite_url(data.database_path)))
        try:
            yield
        finally:
            server.shutdown()
            serving.join()
    data.clear_head()
    shutil.rmtree(folder)
