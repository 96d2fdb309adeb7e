"""The files of sweeps in the data directory: they come in pieces, are whole or not there, and survive the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raycolab.errors import ClusterError, UsageError
from raycolab.main.files import FrozenFiles, freeze
from raycolab.store.archives import Archives


@pytest.fixture
def frozen(tmp_path: Path) -> tuple[FrozenFiles, bytes]:
    """Some files, and their archive."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "data.bin").write_bytes(os.urandom(5000))
    return freeze(tmp_path / "project", ["data.bin"], None)


def put(archives: Archives, files: FrozenFiles, archive: bytes, piece: int = 1000) -> None:
    """Send an archive as a client does."""
    there = archives.add(files.digest, len(archive), 0, b"")
    while there < len(archive):
        there = archives.add(files.digest, len(archive), there, archive[there : there + piece])


def test_an_archive_comes_in_pieces_and_goes_on_where_it_was_cut_off(
    tmp_path: Path, frozen: tuple[FrozenFiles, bytes]
) -> None:
    """A piece that comes twice, or in the wrong place, changes nothing; only the whole is there."""
    files, archive = frozen
    archives = Archives.of(tmp_path)
    assert archives.add(files.digest, len(archive), 0, archive[:1000]) == 1000
    for offset in (0, 2000):
        assert archives.add(files.digest, len(archive), offset, archive[offset : offset + 1000]) == 1000
    assert archives.path(files.digest) is None
    again = Archives.of(tmp_path)
    put(again, files, archive)
    assert again.add(files.digest, len(archive), 0, b"") == len(archive)
    path = again.path(files.digest)
    assert path is not None
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (archive, 0o600)
    assert again.read(files.digest, 1000) == archive[1000:]


def test_an_archive_that_is_not_what_it_says_is_refused_and_can_come_again(
    tmp_path: Path, frozen: tuple[FrozenFiles, bytes]
) -> None:
    """Its digest decides."""
    files, archive = frozen
    archives = Archives.of(tmp_path)
    with pytest.raises(ClusterError, match=r"the files of MAIN .*: declare the sweep again"):
        put(archives, files, archive[:-1] + bytes([archive[-1] ^ 1]))
    assert archives.path(files.digest) is None
    put(archives, files, archive)
    with pytest.raises(UsageError, match=r"'../x' is not the digest of an archive"):
        archives.path("../x")


def test_what_no_sweep_has_any_more_goes(tmp_path: Path, frozen: tuple[FrozenFiles, bytes]) -> None:
    """Not at once: a declaration may be on its way."""
    files, archive = frozen
    archives = Archives.of(tmp_path)
    put(archives, files, archive)
    archives.keep_only([])
    assert archives.path(files.digest) is not None
    archives.keep_only([files.digest], now=10**10)
    assert archives.path(files.digest) is not None
    archives.keep_only([], now=10**10)
    assert archives.path(files.digest) is None
    with pytest.raises(ClusterError, match="declare it again from the folder of MAIN, which brings them"):
        archives.read(files.digest, 0)


def test_a_folder_of_snapshots_gets_each_archive_once(tmp_path: Path, frozen: tuple[FrozenFiles, bytes]) -> None:
    """And gives it back to a machine that has nothing; what was cut there is left."""
    files, archive = frozen
    here, there = Archives.of(tmp_path), tmp_path / "drive"
    here.copy_missing(there)
    assert not there.exists()
    put(here, files, archive)
    here.copy_missing(there)
    (copy,) = there.iterdir()
    before = copy.stat().st_ino
    here.copy_missing(there)
    assert copy.stat().st_ino == before
    new = Archives.of(tmp_path / "new")
    (tmp_path / "new").mkdir()
    new.take_back(there)
    assert new.read(files.digest, 0) == archive
    copy.write_bytes(archive[:-1])
    broken = Archives(tmp_path / "broken")
    broken.take_back(there)
    assert broken.path(files.digest) is None
    here.keep_only([], now=10**10)
    here.copy_missing(there)
    assert list(there.iterdir()) == []
