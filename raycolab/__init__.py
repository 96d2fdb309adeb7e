"""One real Ray cluster out of a handful of notebook sessions, and a hyperparameter sweep on it.

    head = raycolab.start_head()            in one notebook; prints the join address
    raycolab.join("tunnel+wss://...")       in the others
    results = raycolab.declare("name", main="MAIN.ipynb", models={...}, datasets=[...]).run()

Names are imported when they are first used, so `import raycolab` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raycolab.cluster import Head, attach, join, leave, start_head
    from raycolab.diagnostics.doctor import doctor
    from raycolab.errors import RaycolabError
    from raycolab.examples import example_path
    from raycolab.main.compute import TrialPruned, report
    from raycolab.main.kernel import run_main
    from raycolab.main.seeds import set_seed
    from raycolab.main.trial import trial
    from raycolab.spec.spaces import (
        choice,
        constant,
        grid_search,
        integer,
        lograndint,
        loguniform,
        quniform,
        randint,
        randn,
        uniform,
    )
    from raycolab.sweep import Sweep, dashboard, declare, find

__all__ = [
    "Head",
    "RaycolabError",
    "Sweep",
    "TrialPruned",
    "attach",
    "choice",
    "constant",
    "dashboard",
    "declare",
    "doctor",
    "example_path",
    "find",
    "grid_search",
    "integer",
    "join",
    "leave",
    "lograndint",
    "loguniform",
    "quniform",
    "randint",
    "randn",
    "report",
    "run_main",
    "set_seed",
    "start_head",
    "trial",
    "uniform",
]

_HOMES = {
    "Head": "cluster",
    "RaycolabError": "errors",
    "Sweep": "sweep",
    "attach": "cluster",
    "dashboard": "sweep",
    "declare": "sweep",
    "doctor": "diagnostics.doctor",
    "example_path": "examples",
    "find": "sweep",
    "join": "cluster",
    "leave": "cluster",
    "TrialPruned": "main.compute",
    "report": "main.compute",
    "run_main": "main.kernel",
    "set_seed": "main.seeds",
    "start_head": "cluster",
    "trial": "main.trial",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'raycolab' has no attribute {name!r}")
    return getattr(importlib.import_module(f"raycolab.{_HOMES.get(name, 'spec.spaces')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
