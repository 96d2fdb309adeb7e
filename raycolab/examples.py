"""Where the packaged example lies: the notebooks and the sweep file of `examples/`."""

from __future__ import annotations

from pathlib import Path

from raycolab.errors import UsageError

__all__ = ["example_path"]

_HERE = Path(__file__).resolve().parent
_PLACES = (_HERE / "example_files", _HERE.parent / "examples")  # in a wheel; in a checkout


def example_path(name: str) -> Path:
    """The path of `MAIN.ipynb`, `sweep.yaml`, `head.ipynb` or `joiner.ipynb`; UsageError names those there are."""
    for place in _PLACES:
        if (place / name).is_file():
            return place / name
    there = sorted(path.name for place in _PLACES if place.is_dir() for path in place.iterdir() if path.is_file())
    raise UsageError(f"There is no example {name!r}; there are {', '.join(there)}.")
