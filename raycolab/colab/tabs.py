"""joiner-1.ipynb … joiner-5.ipynb on Drive, the join address filled in, and the links that open them in Colab.

Colab gives one VM per notebook file, so each joiner is a file of its own; with these a person clicks and runs instead
of saving copies and pasting. The files hold the join address, which is a credential: they are as private as the Drive.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raycolab.colab.drive import drive_link
from raycolab.examples import example_path

__all__ = ["Tab", "joiner_tabs", "tabs_text"]

COUNT = 5
LINK_PATIENCE_S = 15.0  # until Drive has given the new files their ids
LOOK_S = 0.5
READY = "**This copy is one joiner, and its address is filled in: Runtime > Run all.**"


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
    paths = [folder / f"joiner-{number}.ipynb" for number in range(1, COUNT + 1)]
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
