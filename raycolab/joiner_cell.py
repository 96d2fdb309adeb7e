"""The one cell that makes a joiner of a blank notebook: it installs what the head runs, then joins.

What to install is what pip wrote down when it installed the head's own raycolab (PEP 610's direct_url.json), a git URL
at its commit for instance, so it needs no word from the person. Nothing here runs the cell.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import metadata
from urllib.parse import unquote, urlsplit

__all__ = ["installable", "installed_source", "joiner_cell"]

_NAME = "raycolab"
_ON_DISK = "# This tab must have that path too, on its Drive or on a disk it shares with the head.\n"


def joiner_cell(join_address: str) -> str:
    """A whole cell: the head's raycolab and its very Ray, then `raycolab.join`."""
    source = installed_source()
    note = _ON_DISK if source.startswith("/") else ""
    return (
        f'{note}%pip install --quiet "{source}" "ray=={metadata.version("ray")}"\n'
        "import raycolab\n\n"
        f'raycolab.join("{join_address}")\n'
    )


@cache
def installed_source() -> str:
    """What pip would have to be given to install the raycolab that runs here."""
    package = metadata.distribution(_NAME)
    return installable(package.read_text("direct_url.json"), package.version)


def installable(direct_url: str | None, version: str) -> str:
    """A git URL at its commit, the URL of a wheel, or a path, as `direct_url` has it; without it the version's name.

    pip keeps no password in a direct_url: a private repository's URL comes without it.
    """
    if direct_url is None:
        return f"{_NAME}=={version}"
    written = json.loads(direct_url)
    url = str(written["url"])
    if "vcs_info" in written:
        url = f"{written['vcs_info']['vcs']}+{url}@{written['vcs_info']['commit_id']}"
    elif urlsplit(url).scheme == "file":
        return unquote(urlsplit(url).path)
    return f"{url}#subdirectory={written['subdirectory']}" if "subdirectory" in written else url
