"""A head as its clients see it: the server of a real one in a thread, which answers as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from raycolab.engine import stored_sweeps
from raycolab.main.notebook import MainNotebook
from raycolab.node import api
from raycolab.node.data_dir import DataDir, HeadRecord, make_run_dir
from raycolab.node.messages import versions
from raycolab.node.rpc import Channel, Server
from raycolab.spec.spec import SweepSpec
from raycolab.store import Store, open_store, sqlite_url
from raycolab.store.archives import Archives
from tests.in_loop import LoopThread

__all__ = ["IDLE", "ScriptedHead", "declare_stored", "scripted_head"]

IDLE: dict[str, Any] = {"nodes": [], "sweeps": []}

Answer = Callable[[Any], object]


class ScriptedHead:
    """What it was asked, and over which connections."""

    def __init__(self, data_dir: Path, answer: Answer) -> None:
        self.asked: list[Any] = []
        self.connections: set[Channel] = set()
        self._data = DataDir(data_dir)
        self._archives = Archives.of(data_dir)
        self._answer = answer

    async def answer(self, body: bytes, channel: Channel) -> bytes:
        """Answer one request: as the test says, and as a head with this database does where that says nothing."""
        request = api.decode(body, api.HeadRequest | api.EngineRequest)
        self.asked.append(request)
        self.connections.add(channel)
        return api.encode(await asyncio.to_thread(self._answered, request))

    def _answered(self, request: Any) -> object:
        answer = self._answer(request)
        if answer is not None:
            return answer
        match request:
            case api.Facts():
                return api.HeadFacts("tunnel+x", "127.77.0.1:1", "t" * 43)
            case api.Status():
                return IDLE
            case api.PutFiles():
                return self._archives.add(request.digest, request.size, request.offset, request.piece)
        with open_store(sqlite_url(self._data.database_path)) as store:
            match request:
                case api.Declare():
                    return _declared(store, request)
                case api.Delete():
                    return store.delete_sweep(request.sweep)
                case api.Find() | api.ListSweeps() | api.ReadRows() | api.ReadOutput():
                    return stored_sweeps.answer(store, request)
        return None


def declare_stored(data_dir: Path, name: str, *, main: Any, **arguments: Any) -> None:
    """What `declare` comes to where a head runs, without one."""
    data_dir.mkdir(exist_ok=True)
    spec = SweepSpec.from_arguments(name, **arguments)
    with open_store(sqlite_url(DataDir(data_dir).database_path)) as store:
        _declared(store, api.Declare(spec.to_json(), MainNotebook.load(main).to_json(), versions()))


def _declared(store: Store, request: api.Declare) -> list[str]:
    declared = stored_sweeps.declaration(store, request)
    declared.write(store)
    if declared.again:
        sweep = store.existing_sweep(SweepSpec.from_json(request.spec).name)
        stored_sweeps.retry_rows(store, sweep, declared.again)
    return declared.lines


@contextlib.contextmanager
def scripted_head(data_dir: Path, answer: Answer = lambda request: None) -> Iterator[ScriptedHead]:
    """A head of this data directory, within the block, whose part is played by `answer`."""
    folder, data = make_run_dir(), DataDir(data_dir)
    head = ScriptedHead(data_dir, answer)
    loop = LoopThread()
    server = Server(folder / "control", head.answer)
    try:
        loop.run(server.start())
        data.save(HeadRecord(1, str(folder / "control"), 0.0, sqlite_url(data.database_path)))
        yield head
    finally:
        data.clear_head()
        loop.run(server.close())
        loop.end()
        shutil.rmtree(folder)
