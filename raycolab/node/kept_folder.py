"""The folder where a head's snapshots are kept, such as one on a mounted Drive: whose it is, what is kept and restored.

    join-address.txt          0600 where the folder has modes: what joiners read with `@FILE`
    raycolab-000012.*         snapshots of the store and the identity (see `raycolab.store.snapshots`)

The folder may be slow, full, gone, or hang for minutes, and a process that waits in a hanging folder cannot even be
killed. So nobody but this process touches it: `python -m raycolab.node.kept_folder` answers one JSON line with another,
and the head goes on whatever becomes of it (`raycolab.node.keeping`).

**Whose it is** needs no clock and no lock, which such folders do not have. A data directory has a name of its own, and
remembers the names of those whose snapshots it took up (`heads`, the last is its own). What it writes says so. It
writes only where all snapshots are of these heads: of two heads the one that took up the other's snapshots goes on, and
the other one, or a stranger, is told and destroys nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from raycolab.colab import drive_folder, is_colab
from raycolab.errors import ClusterError, RaycolabError
from raycolab.files import read_text, typed_path
from raycolab.node.api import Problem
from raycolab.node.data_dir import DataDir
from raycolab.store import StoreOutageError
from raycolab.store.snapshots import DATABASE, KEPT, Snapshot, described, newest, restore, take
from raycolab.store.sqlite_file import drop_claims, worth_keeping
from raycolab.text import duration_text, utc_seconds

__all__ = ["ADDRESS_FILE", "FOLDER_VARIABLE", "KeptFolder", "chosen_folder", "is_wanted", "main"]

FOLDER_VARIABLE = "RAYCOLAB_SNAPSHOTS"
ADDRESS_FILE = "join-address.txt"
IDENTITY = "identity.json"
LONGEST_ADDRESS_FILE = 100_000  # bytes
HEADS_REMEMBERED = 100


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether there is, or may come, a folder to keep snapshots in. Touches no folder."""
    return bool(environ.get(FOLDER_VARIABLE, is_colab(environ)))


def chosen_folder(environ: Mapping[str, str]) -> Path | None:
    """The folder of RAYCOLAB_SNAPSHOTS (set, but empty: none), else on Colab one on Drive where that is mounted."""
    given = environ.get(FOLDER_VARIABLE)
    if given is not None:
        return typed_path(given, FOLDER_VARIABLE).absolute() if given else None
    return drive_folder() if is_colab(environ) else None


class KeptFolder:
    """What the process does for one head: `look`, then perhaps `restore`, then `keep` again and again."""

    def __init__(
        self,
        data_dir: DataDir,
        database: Path | None,
        folder: Callable[[], Path | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`database` is the SQLite file of the store, None for a store elsewhere; `folder` is asked every time."""
        self._data_dir = data_dir
        self._database = database
        self._folder = folder
        self._clock = clock
        self._identity = data_dir.path / IDENTITY
        self._kept: tuple[Path, str] | None = None  # where, and what, this process kept last
        self._found: Snapshot | None = None  # what `look` found to restore

    def look(self) -> dict[str, Any]:
        """Whether there is a snapshot to restore: its number, where it is from, how old, and its head's join address.

        `note` is for people, where this machine has something of its own. Raises ClusterError where nothing can be
        told of the folder and a new head could push good snapshots out of it.
        """
        folder = self._folder()
        if folder is None:
            return {"folder": None}
        if self._identity.exists() or (self._database is not None and self._database.exists()):
            return {"folder": str(folder), "note": self._note_of_others(folder)}
        _require_parent(folder)
        there = described(folder)
        self._found = newest(folder)
        if self._found is None:
            if there:
                raise ClusterError(
                    f"None of the snapshots in {folder} is whole, the newest is number {there[0].number}: if they are"
                    f" still on their way, wait and start again; to begin anew, move them away or set {FOLDER_VARIABLE}"
                    " to another folder."
                )
            return {"folder": str(folder)}
        age_s = self._clock() - utc_seconds(self._found.taken_at)
        found = {"number": self._found.number, "age_s": age_s, "words": self._words(self._found)}
        return {"folder": str(folder), "found": found, "newest": there[0].number, "address": _read_address(folder)}

    def restore(self) -> dict[str, Any]:
        """Restore what `look` found, where this head will look for it. Raises StoreOutageError when it is not whole."""
        assert self._found is not None  # `look` said so
        folder = self._found.folder
        before = dict.fromkeys([head for snapshot in described(folder) for head in snapshot.heads])
        places: dict[str, Path] = {IDENTITY: self._identity}
        if self._database is not None:
            places[DATABASE] = self._database
        restore(self._found, places)
        if self._database is not None and self._database.exists():
            drop_claims(self._database)
        # Last: a directory that is not all of that snapshot must not take up its place in the folder.
        self._data_dir.save_heads([*list(before)[-HEADS_REMEMBERED:], _new_name()])
        return {"number": self._found.number}

    def keep(self, address: str) -> dict[str, Any]:
        """Write the join address, and a snapshot unless the last one has all that is worth keeping."""
        folder = self._folder()
        if folder is None:
            return {"folder": None}
        _require_parent(folder)
        there = described(folder)
        heads = self._heads()
        self._refuse_others(folder, there, heads)
        identity = self._identity.read_bytes()
        content = f"{worth_keeping(self._database) if self._database else ''} {_digest(identity)}"
        answer: dict[str, Any] = {"folder": str(folder), "number": None}
        if self._kept != (folder, content):
            # Restored, an older identity would bring back a join address that was made worthless.
            is_new = any(snapshot.digests.get(IDENTITY) != _digest(identity) for snapshot in there)
            for _ in range(KEPT if is_new else 1):
                snapshot = take(
                    self._database,
                    folder,
                    self._clock(),
                    extras=[self._identity],
                    heads=heads,
                    machine=socket.gethostname(),
                )
            self._kept = folder, content
            answer["number"] = snapshot.number
        if address:
            _write_address(folder, address)
        return answer

    def _heads(self) -> list[str]:
        heads = self._data_dir.load_heads()
        if not heads:
            heads = [_new_name()]
            self._data_dir.save_heads(heads)
        return heads

    def _refuse_others(self, folder: Path, there: Sequence[Snapshot], heads: Sequence[str]) -> None:
        """ClusterError where a snapshot of this head would push out what is not its own."""
        cure = f"nothing is kept there. Set {FOLDER_VARIABLE} to a folder of this head's own, and start it again"
        if (other := _newest_of_others(there, heads)) is not None:
            raise ClusterError(f"{folder} has the snapshots of another head ({self._words(other)}): {cure}.")
        if self._database is None and any(DATABASE in snapshot.digests for snapshot in there):
            raise ClusterError(f"{folder} has results of a head with a store in SQLite, and this one's is not: {cure}.")

    def _note_of_others(self, folder: Path) -> str | None:
        with contextlib.suppress(RaycolabError):  # a folder that fails is told of by `keep`
            other = _newest_of_others(described(folder), self._data_dir.load_heads())
            if other is not None:
                return (
                    f"This head goes on with what is in {self._data_dir.path}, not with {self._words(other)} in"
                    f" {folder}, which another head wrote. To go on from that one, end this head and start it with"
                    " another data directory."
                )
        return None

    def _words(self, snapshot: Snapshot) -> str:
        machine = f" on {snapshot.machine}" if snapshot.machine else ""
        return f"snapshot {snapshot.number}, {self._age(snapshot)} old, of the head{machine}"

    def _age(self, snapshot: Snapshot) -> str:
        return duration_text(self._clock() - utc_seconds(snapshot.taken_at))


def _newest_of_others(there: Sequence[Snapshot], heads: Sequence[str]) -> Snapshot | None:
    others = (snapshot for snapshot in there if not set(snapshot.heads[-1:]) <= set(heads))
    return next(others, None)


def _new_name() -> str:
    return secrets.token_hex(8)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _require_parent(folder: Path) -> None:
    """ClusterError where the folder would have to be made together with the one it is in, as on a Drive not mounted."""
    if not folder.parent.is_dir():
        raise ClusterError(
            f"{folder} cannot be used for snapshots, there is no {folder.parent}: mount the Drive it is on, or make it."
        )


def _read_address(folder: Path) -> str:
    """What lies there as a join address; nothing where none can be read."""
    try:
        return read_text(folder / ADDRESS_FILE, LONGEST_ADDRESS_FILE)
    except (OSError, UnicodeDecodeError):
        return ""


def _write_address(folder: Path, address: str) -> None:
    """Replace the join address, whole where the folder can rename over a file. ClusterError."""
    path, part = folder / ADDRESS_FILE, folder / f".{ADDRESS_FILE}.part"
    text = address + "\n"
    if _read_address(folder) == text:
        return
    try:
        _write(part, text)
        try:
            part.replace(path)
        except OSError:  # not every such folder can: a reader sees by the address itself whether it is whole
            _write(path, text)
            part.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise ClusterError(
            f"the join address cannot be written to {path} ({error.strerror}): mend that, or set {FOLDER_VARIABLE} to"
            " another folder."
        ) from error


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        with contextlib.suppress(OSError):  # a folder without modes
            os.fchmod(descriptor, 0o600)
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _answer(kept: KeptFolder, request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        match request["op"]:
            case "look":
                answer = kept.look()
            case "restore":
                answer = kept.restore()
            case _:
                answer = kept.keep(str(request["address"]))
    except StoreOutageError as error:  # unknown where it is read, and would lose its exit code
        return _refusal(ClusterError(str(error)))
    except RaycolabError as error:
        return _refusal(error)
    except OSError as error:
        reason = f"{os.strerror(error.errno or 0)}: {error.filename or 'the folder'}"
        sentence = (
            f"snapshots cannot be kept or restored ({reason}): mend that, or set {FOLDER_VARIABLE} to another folder."
        )
        return _refusal(ClusterError(sentence))
    return {"ok": True, **answer}


def _refusal(error: RaycolabError) -> dict[str, Any]:
    return {"ok": False, **msgspec.to_builtins(Problem.of(error))}


def main(data_dir: str, database: str) -> None:
    """Answer the lines on stdin, one by one, until there are no more. `database` is empty for a store elsewhere."""
    kept = KeptFolder(DataDir(data_dir), Path(database) if database else None, lambda: chosen_folder(os.environ))
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(msgspec.json.encode(_answer(kept, msgspec.json.decode(line))) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
