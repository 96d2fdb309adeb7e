"""The dashboard: optuna-dashboard, to which this is the only door, on studies in memory that follow what sweeps find.

A study for each pair. Nothing is written, and nothing that is done in the dashboard reaches the database.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
from optuna.storages import InMemoryStorage

from raycolab.errors import PortTakenError, UsageError
from raycolab.results.study import add_trials, optuna_study
from raycolab.results.table import Results
from raycolab.trials import FINAL_STATES

__all__ = ["LiveStudies", "serve"]

_LOOK_S = 2.0


class LiveStudies:
    """Studies of sweeps, a study for each pair, to which trials are added as they end."""

    def __init__(self) -> None:
        self.storage = InMemoryStorage()
        self._told: set[tuple[str, int, int]] = set()  # sweep, number and attempts

    def add(self, found: Results) -> None:
        """What a sweep has found by now; a trial that was run again is there again."""
        new = [row for row in found.rows if row.state in FINAL_STATES]
        new = [row for row in new if (found.name, row.number, row.attempts) not in self._told]
        self._told.update((found.name, row.number, row.attempts) for row in new)
        reports = found.reports
        for model, dataset in dict.fromkeys((row.model, row.dataset) for row in new):
            rows = [row for row in new if (row.model, row.dataset) == (model, dataset)]
            name = f"{found.name}/{model}/{dataset}"
            if any(study.study_name == name for study in self.storage.get_all_studies()):
                study = optuna.load_study(study_name=name, storage=self.storage)
                add_trials(study, rows, reports, found.spec.models, found.metric)
            else:
                optuna_study(name, rows, reports, found.spec.models, found.metric, storage=self.storage)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """A request is nobody's news."""


def serve(read: Callable[[], Iterable[Results]], port: int) -> tuple[int, Callable[[], None]]:
    """Serve the dashboard on this machine alone, kept current by `read`, which gives what changed since the last time.

    The port, and what ends the serving. UsageError where optuna-dashboard is missing, PortTakenError.
    """
    try:
        from optuna_dashboard import wsgi
    except ImportError as error:
        raise UsageError(
            "optuna-dashboard is not installed: run `pip install 'raycolab[dashboard]'` and try again."
        ) from error
    studies = LiveStudies()
    for found in read():
        studies.add(found)
    try:
        server = make_server("127.0.0.1", port, wsgi(studies.storage), server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        raise PortTakenError(
            f"Port {port} cannot be listened on ({error.strerror}): give --port another one."
        ) from error
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(_LOOK_S):
            for found in read():
                studies.add(found)

    def end() -> None:
        ended.set()
        server.shutdown()
        server.server_close()

    threading.Thread(target=follow, name="raycolab-dashboard-follow", daemon=True).start()
    threading.Thread(target=server.serve_forever, name="raycolab-dashboard", daemon=True).start()
    return server.server_port, end
