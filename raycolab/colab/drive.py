"""Google Drive where Colab has mounted it: the folder raycolab keeps there, and the link of a file in it.

Nothing here mounts anything: that is the user's `drive.mount`, which asks for consent.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["USUAL_MOUNTS", "drive_folder", "drive_link", "is_drive_at"]

USUAL_MOUNTS = (Path("/content/drive"), Path("/content/gdrive"))
MY_DRIVE = "MyDrive"  # also reached as "My Drive"
FOLDER = "raycolab"
_MOUNTS = Path("/proc/mounts")
_FILE_SYSTEM = "fuse.drive"  # Drive's, as google.colab.drive itself looks for it
_ID_ATTRIBUTE = "user.drive.id"
_NOT_YET = "local-"  # how the id of a file begins that Drive's servers do not have yet
_LINK = "https://colab.research.google.com/drive/"


def drive_folder(mounts: Path = _MOUNTS, usual: tuple[Path, ...] = USUAL_MOUNTS) -> Path | None:
    """raycolab's folder on the mounted Drive, `MyDrive/raycolab`, which need not exist; None without Drive."""
    for mount in (*usual, *_drive_mounts(mounts)):
        if is_drive_at(mount):
            return mount / MY_DRIVE / FOLDER
    return None


def is_drive_at(mount: Path) -> bool:
    """Whether Drive is mounted there and answers."""
    try:
        return (mount / MY_DRIVE).is_dir()
    except OSError:  # its process has ended: "Transport endpoint is not connected"
        return False


def drive_link(path: Path, read: Callable[[str, str], bytes] = os.getxattr) -> str | None:
    """The address that opens a notebook of Drive in Colab; None while Drive has not taken it, or outside Drive."""
    try:
        file_id = read(str(path), _ID_ATTRIBUTE).decode("ascii", "replace").strip()
    except OSError:
        return None
    usable = file_id.replace("-", "").replace("_", "").isalnum() and not file_id.startswith(_NOT_YET)
    return _LINK + file_id if usable else None


def _drive_mounts(mounts: Path) -> list[Path]:
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    fields = [line.split() for line in lines]
    return [Path(each[1]) for each in fields if len(each) > 2 and each[2] == _FILE_SYSTEM]
