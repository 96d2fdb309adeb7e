"""What a person begins with: the packaged notebooks and sweep file, and the cell that makes a joiner of a notebook."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from functools import cache
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from raycolab.errors import UsageError
from raycolab.files import typed_path

__all__ = ["example_path", "installable", "installed_source", "joiner_cell", "next_steps", "write_examples"]

_HERE = Path(__file__).resolve().parent
_PLACES = (_HERE / "example_files", _HERE.parent / "examples")  # in a wheel; in a checkout
_NAME = "raycolab"
_ON_DISK = "# This tab must have that path too, on its Drive or on a disk it shares with the head.\n"

# As head.ipynb and joiner.ipynb have it.
_SOURCE = 'SOURCE = "git+https://github.com/raycolab/raycolab"'

_COPIED = ("head.ipynb", "joiner.ipynb", "MAIN.ipynb", "sweep.yaml")


def example_path(name: str) -> Path:
    """The path of `MAIN.ipynb`, `sweep.yaml`, `head.ipynb` or `joiner.ipynb`; UsageError names those there are."""
    for place in _PLACES:
        if (place / name).is_file():
            return place / name
    there = sorted(path.name for place in _PLACES if place.is_dir() for path in place.iterdir() if path.is_file())
    raise UsageError(f"There is no example {name!r}; there are {', '.join(there)}.")


def write_examples(folder: str | os.PathLike[str]) -> list[Path]:
    """Write the three notebooks and the sweep file to a folder, made where it is missing; returns their paths.

    The notebooks install the very raycolab that wrote them.

    All or none: UsageError, with nothing written, when one of them is there already or the folder cannot be used.
    """
    target = typed_path(folder, "The folder")
    paths = [target / name for name in _COPIED]
    there = [path.name for path in paths if os.path.lexists(path)]
    if there:
        raise _refusal(target, there)
    with contextlib.ExitStack() as undo:
        try:
            _make(target, undo)
            for path in paths:
                with path.open("xb") as file:
                    undo.callback(path.unlink, missing_ok=True)
                    file.write(_fitted(example_path(path.name).read_text("utf-8")).encode())
        except FileExistsError as error:  # it came since it was looked for
            raise _refusal(target, [Path(error.filename).name]) from error
        except OSError as error:
            raise UsageError(
                f"{target} cannot be written to ({error.strerror}): name a folder that you may write to, with room."
            ) from error
        undo.pop_all()
    return paths


def _fitted(text: str) -> str:
    """An example that installs what is installed here."""
    return text.replace(_SOURCE.replace('"', '\\"'), f'SOURCE = \\"{installed_source()}\\"')


def next_steps(folder: Path) -> str:
    """What to do with what `write_examples` wrote."""
    there = shlex.quote(str(folder))
    return (
        f"\nIn notebooks:   open {folder / 'head.ipynb'} and run it from the top; it says what joiner.ipynb is for.\n"
        "In terminals:   raycolab head, and in another one\n"
        f"                raycolab submit {there}/sweep.yaml --set jobs_per_pair=5\n"
        "Your own work:  replace compute in MAIN.ipynb; name its models and data sets in head.ipynb, or sweep.yaml."
    )


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


def _make(folder: Path, undo: contextlib.ExitStack) -> None:
    """Make a folder, and those above it that are missing; `undo` removes them again."""
    missing = [folder, *folder.parents]
    for each in reversed([path for path in missing if not path.exists()]):
        each.mkdir(exist_ok=True)
        undo.callback(each.rmdir)


def _refusal(folder: Path, there: list[str]) -> UsageError:
    names = there[0] if len(there) == 1 else f"{', '.join(there[:-1])} and {there[-1]}"
    return UsageError(
        f"{folder} has {names} already, and nothing is overwritten: name another folder, or move"
        f" {'it' if len(there) == 1 else 'them'} away."
    )
