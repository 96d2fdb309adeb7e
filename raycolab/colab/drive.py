"""Google Drive where Colab has mounted it: raycolab's folder there, and a joiner notebook for each tab in it.

Nothing here mounts anything: that is the user's `drive.mount`, which asks for consent. Colab gives one VM per notebook
file, so each joiner is a file of its own; with these a person clicks and runs instead of saving copies and pasting. The
files hold the join address, which is a credential: they are as private as the Drive.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raycolab.examples import example_path

__all__ = ["USUAL_MOUNTS", "Tab", "drive_folder", "drive_link", "is_drive_at", "joiner_tabs", "tabs_text"]

USUAL_MOUNTS = (Path("/content/drive"), Path("/content/gdrive"))
MY_DRIVE = "MyDrive"  # also reached as "My Drive"
FOLDER = "raycolab"
TABS = 5  # joiner notebooks
LINK_PATIENCE_S = 15.0  # until Drive has given the new files their ids
LOOK_S = 0.5
READY = "**This copy is one joiner, and its address is filled in: Runtime > Run all.**"

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


@dataclass(frozen=True, slots=True)
class Tab:
    """One joiner's notebook on Drive."""

    path: Path
    link: str | None  # None: Drive has not said under which address


def joiner_tabs(
    folder: Path,
    address: str,
    source: str | None = None,
    *,
    link_of: Callable[[Path], str | None] = drive_link,
    patience_s: float = LINK_PATIENCE_S,
) -> list[Tab]:
    """Write the joiner notebooks into `folder` and give each one's link; none where Drive does not take them.

    `source` replaces the notebook's SOURCE, what pip installs. A file that holds the same stays as it is, and one that
    does not is written over in place: its id, and so its link and the VM it opens, stay the same from head to head.
    """
    text = filled_joiner(address, source)
    paths = [folder / f"joiner-{number}.ipynb" for number in range(1, TABS + 1)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            if _text_of(path) != text:
                path.write_text(text, encoding="utf-8")
    except OSError:  # a full or read-only Drive: joiner.ipynb and the address still do
        return []
    links = {path: link_of(path) for path in paths}
    deadline = time.monotonic() + patience_s
    while None in links.values() and time.monotonic() < deadline:
        time.sleep(min(LOOK_S, patience_s))
        links |= {path: link_of(path) for path, link in links.items() if link is None}
    return [Tab(path, link) for path, link in links.items()]


def tabs_text(tabs: list[Tab]) -> str:
    """What a person is told: five links to click, or where the files lie while Drive gives no links."""
    if not tabs:
        return "Drive takes no joiner notebooks (is it full?): open joiner.ipynb in each tab and give it the address."
    if all(tab.link is not None for tab in tabs):
        lines = [f"  {tab.path.stem}  {tab.link}" for tab in tabs]
        head = "Joiners, one click each: open a link, then Runtime > Run all."
    else:
        lines = [f"  {tabs[0].path.parent}: {tabs[0].path.name} … {tabs[-1].path.name}"]
        head = "Joiners: open these in Drive, one tab each, then Runtime > Run all."
    return "\n".join([head, *lines, "They hold the join address: share none of them."])


def filled_joiner(address: str, source: str | None = None) -> str:
    """The packaged joiner notebook with its form filled in, and its advice to save copies taken out."""
    notebook: dict[str, Any] = json.loads(example_path("joiner.ipynb").read_text(encoding="utf-8"))
    first = notebook["cells"][0]
    advice, blank, rest = "".join(first["source"]).partition("\n\n")
    if "Save a copy" in advice:
        first["source"] = (READY + blank + rest).splitlines(keepends=True)
    _fill_in(notebook, "ADDRESS", address)
    if source is not None:
        _fill_in(notebook, "SOURCE", source)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _fill_in(notebook: dict[str, Any], name: str, value: str) -> None:
    """Type a value into the form field `NAME = ...  # @param`; ValueError when the notebook has not just one."""
    field = re.compile(rf"^{name} = .*(?=  # @param)", re.MULTILINE)
    filled = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            text, count = field.subn(lambda _: f"{name} = {json.dumps(value)}", "".join(cell["source"]))
            if count:
                cell["source"] = text.splitlines(keepends=True)
            filled += count
    if filled != 1:
        raise ValueError(f"joiner.ipynb has {filled} form fields {name}")


def _text_of(path: Path) -> str | None:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8")
    return None
