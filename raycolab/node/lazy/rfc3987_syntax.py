"""The package of this name, loaded when it is first used, in the processes of Ray: their PYTHONPATH has this folder.

`import ray` imports jsonschema, and that, from 4.25 on, this package where Jupyter has brought it, as on Colab. It
compiles grammars while it is imported, for more than a second in each process of a node, and none asks for any of them.
(jsonschema#1428, jupyter_server#1559; once that is mended there this file can go.)
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["is_valid_syntax"]


def _find() -> ModuleSpec:
    """Where the package itself is; ModuleNotFoundError as if this file were not here."""
    here = Path(__file__).parent
    found = PathFinder.find_spec(__name__, [folder for folder in sys.path if Path(folder) != here])
    if found is None:
        raise ModuleNotFoundError(f"No module named {__name__!r}", name=__name__)
    return found


_SPEC = _find()
__path__ = _SPEC.submodule_search_locations or []  # its own modules are found as ever


def is_valid_syntax(*arguments: Any, **options: Any) -> Any:
    """What jsonschema imports by name."""
    return _load().is_valid_syntax(*arguments, **options)


def _load() -> ModuleType:
    """The package itself, under its name from now on."""
    if sys.modules[__name__].__spec__ is not _SPEC:
        sys.modules[__name__] = module_from_spec(_SPEC)
        assert _SPEC.loader is not None
        _SPEC.loader.exec_module(sys.modules[__name__])
    return sys.modules[__name__]


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(_load(), name)
