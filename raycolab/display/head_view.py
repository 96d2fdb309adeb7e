"""The head's panel in a notebook, kept true by a thread: who joined, what to read, and no address once it is over.

The cell that shows it ends at once, so nobody else could. All panels of one head in a notebook have one `display_id`
and change together; a kernel that was restarted takes up its own. JupyterLab forgets which output has which id when its
page is loaded again, so no message reaches those it shows then: `Head.shutdown` says what to do.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from raycolab.display.head_panel import head_bundle
from raycolab.display.surface import in_notebook, publish
from raycolab.errors import NoHeadError, RaycolabError
from raycolab.joiner_cell import joiner_cell

__all__ = ["HeadView", "head_view"]

_LOOK_S = 1.0
_AT_LEAST_S = 30.0  # between two updates that change numbers only: each one loses what a person has selected

Look = Callable[[], tuple[Mapping[str, Any], str]]
"""The status and the join address now; NoHeadError once the head has ended."""


class HeadView:
    """One head's panels in this kernel; get it with `head_view`."""

    def __init__(self, name: str) -> None:
        self._display_id = f"raycolab-head-{zlib.crc32(name.encode()):08x}"
        self._look: Look | None = None  # set by `show`
        self._lock = threading.Lock()  # of what follows: the thread and the kernel's own
        self._watching: threading.Event | None = None  # set to end the thread
        self._is_over = False
        self._status: Mapping[str, Any] | None = None
        self._told: object = None
        self._told_at = 0.0

    def show(self, look: Look) -> None:
        """One more panel, kept true with those there are by what `look` gives. Raises what it does."""
        with self._lock:
            self._look = look
            self._is_over = False
            self._status, address = look()
            self._publish(address, update=False)
            if self._watching is None:
                self._watching = threading.Event()
                watch = threading.Thread(target=self._watch, args=(self._watching,), name="raycolab-head", daemon=True)
                watch.start()

    def end(self) -> None:
        """The head is over: every panel says so, and has no address any more; those of an earlier kernel too."""
        with self._lock:
            shows_some = self._watching is not None or in_notebook()
            if self._watching is not None:
                self._watching.set()
                self._watching = None
            if shows_some and not self._is_over:
                self._is_over = True
                self._publish(None, update=True)

    def _watch(self, ended: threading.Event) -> None:
        assert self._look is not None  # it is shown
        while not ended.wait(_LOOK_S):
            try:
                status, address = self._look()
            except NoHeadError:
                self.end()
                return
            except RaycolabError:  # busy; it is asked again
                continue
            with self._lock:
                if ended.is_set():
                    return
                self._status = status
                if _worth_telling(status, address) != self._told or time.monotonic() - self._told_at > _AT_LEAST_S:
                    self._publish(address, update=True)

    def _publish(self, address: str | None, *, update: bool) -> None:
        cell = "" if address is None else joiner_cell(address)
        publish(head_bundle(self._status, address, cell), self._display_id, update=update)
        self._told = _worth_telling(self._status or {}, address or "")
        self._told_at = time.monotonic()


def head_view(name: str) -> HeadView:
    """The view of the head of this name, one in a kernel."""
    return _VIEWS.setdefault(name, HeadView(name))


_VIEWS: dict[str, HeadView] = {}


def _worth_telling(status: Mapping[str, Any], address: str) -> object:
    """What is a change to a person: not what a node computes, nor what it has sent."""
    nodes = [(node["name"], node["state"], node["warning"]) for node in status.get("nodes", ())]
    traffic, snapshots = status.get("traffic") or {}, status.get("snapshots") or {}
    return address, nodes, traffic.get("warning"), snapshots.get("error")
