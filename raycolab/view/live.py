"""The panels in a notebook that are kept true: a head's, by a thread, and a joiner's, by the cell that watches it.

The cell that shows a head ends at once, so nobody but a thread could. All panels of one head, or of one joiner, have
one `display_id` and change together; a kernel that was restarted takes up its own. JupyterLab forgets which output has
which id when its page is loaded again, so no message reaches those it shows then: `Head.shutdown` says what to do.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from raycolab.errors import NoHeadError, RaycolabError
from raycolab.summary import ClusterStatus, SnapshotStatus
from raycolab.view.output import NotebookOutput, in_notebook, publish
from raycolab.view.panels import JoinerEvent, JoinerView, head_bundle, joiner_bundle

__all__ = ["HeadView", "JoinerSurface", "head_view", "joiner_surface", "show_ended"]

_LOOK_S = 1.0
_NUMBERS_GAP_S = 30.0  # between two updates that change numbers only: each one loses what a person has selected

Look = Callable[[], tuple[Mapping[str, Any], str]]
"""The status and the join address now; NoHeadError once the head has ended."""

Cell = Callable[[str], str]
"""The whole cell that joins from a blank notebook, from the join address."""


class HeadView:
    """One head's panels in this kernel; get it with `head_view`."""

    def __init__(self, name: str) -> None:
        self._display_id = _display_id("head", name)
        # Guards what follows: the thread and the kernel's own code change it.
        self._lock = threading.Lock()
        self._look: Look | None = None  # set by `show`, as the next one
        self._cell: Cell | None = None
        # Set to end the thread; None while there is none.
        self._watching: threading.Event | None = None
        self._is_over = False
        self._status: ClusterStatus | None = None
        self._shown: object = None
        self._shown_at = 0.0

    def show(self, look: Look, cell: Cell | None = None) -> None:
        """One more panel, kept true with those there are by what `look` gives. Raises what it does."""
        with self._lock:
            self._look, self._cell = look, cell
            self._is_over = False
            status, address = look()
            self._status = msgspec.convert(status, ClusterStatus)
            self._publish(address, update=False)
            if self._watching is None:
                self._watching = threading.Event()
                watch = threading.Thread(target=self._watch, args=(self._watching,), name="raycolab-head", daemon=True)
                watch.start()

    def end(self) -> None:
        """The head is over: every panel says so and has lost its address, those of an earlier kernel too."""
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
                self._status = msgspec.convert(status, ClusterStatus)
                is_old = time.monotonic() - self._shown_at > _NUMBERS_GAP_S
                if is_old or _what_matters(self._status, address) != self._shown:
                    self._publish(address, update=True)

    def _publish(self, address: str | None, *, update: bool) -> None:
        cell = "" if address is None or self._cell is None else self._cell(address)
        publish(head_bundle(self._status, address, cell), self._display_id, update=update)
        self._shown = _what_matters(self._status, address)
        self._shown_at = time.monotonic()


def head_view(name: str) -> HeadView:
    """The view of the head of this name, one in a kernel."""
    return _VIEWS.setdefault(name, HeadView(name))


_VIEWS: dict[str, HeadView] = {}


def _what_matters(status: ClusterStatus | None, address: str | None) -> object:
    """What is a change to a person: not what a node computes, nor what it has sent."""
    if status is None:
        return address
    nodes = [(node.name, node.state, node.warning) for node in status.nodes]
    snapshot_error = status.snapshots.error if isinstance(status.snapshots, SnapshotStatus) else None
    return address, nodes, status.traffic and status.traffic.warning, snapshot_error


Ask = Callable[[], Mapping[str, Any]]
"""The joiner's `name` and `trial` as its process says; {} when it does not answer."""


class JoinerSurface:
    """Where a joiner is shown while somebody watches it: here as a line per event."""

    def greet(self, text: str) -> None:
        """How to leave; a panel says that by itself."""
        self.say(text)

    def say(self, text: str) -> None:
        """A sentence about the watching."""
        print(text, flush=True)  # noqa: T201

    def detach(self, text: str) -> None:
        """Somebody stopped watching, and this says what goes on."""
        self.say(text)

    def happened(self, event: Mapping[str, Any]) -> None:
        """An event of the joiner: its `event`, `text` and `at`, or the `error` of a failed one, which is raised too."""
        if event["event"] != "failed":
            self.say(event["text"])

    def look(self) -> None:
        """Time has passed."""

    def close(self) -> None:
        """The watching ends; what is shown now stays."""


def joiner_surface(head: str, ask: Ask, run_dir: str) -> JoinerSurface:
    """The one for where this process runs; `head` is where its head is, and `run_dir` tells joiners apart."""
    return _Panel(head, ask, _display_id("joiner", run_dir)) if in_notebook() else JoinerSurface()


def show_ended(head: str, name: str | None, events: Sequence[Mapping[str, Any]], run_dir: str) -> None:
    """Change the panels of a joiner that nobody watches: it has ended, after these events."""
    if in_notebook():
        view = JoinerView(name, "ended", head)
        for event in events:
            view = _after(view, event)
        view = view if view.state == "failed" else replace(view, state="ended")
        publish(joiner_bundle(view), _display_id("joiner", run_dir), update=True)


class _Panel(JoinerSurface):
    """One output of a notebook, changed in place."""

    def __init__(self, head: str, ask: Ask, display_id: str) -> None:
        self._ask = ask
        self._output = NotebookOutput(time.monotonic, display_id)
        self._view = JoinerView(None, "connecting", head)

    def greet(self, text: str) -> None:
        self._show(self._view)

    def say(self, text: str) -> None:
        self._show(replace(self._view, notes=(*self._view.notes, text)))

    def detach(self, text: str) -> None:
        self._show(replace(self._view, detached=text))

    def happened(self, event: Mapping[str, Any]) -> None:
        self._show(_after(self._view, event))

    def look(self) -> None:
        known = self._ask()
        name, trial = known.get("name", self._view.name), known.get("trial", self._view.trial)
        self._show(replace(self._view, name=name, trial=trial))

    def close(self) -> None:
        self._output.flush()

    def _show(self, view: JoinerView) -> None:
        self._view = view
        self._output.show(joiner_bundle(view))


def _after(view: JoinerView, event: Mapping[str, Any]) -> JoinerView:
    """The view once this has happened."""
    if event["event"] == "failed":
        return replace(view, state="failed", notes=(*view.notes, str(event["error"])))
    at = "" if "at" not in event else time.strftime("%H:%M:%S", time.localtime(event["at"]))
    return replace(view, state=event["event"], events=(*view.events, JoinerEvent(at, event["text"])))


def _display_id(kind: str, name: str) -> str:
    """One for all panels of a head or a joiner, whichever cell or kernel shows them."""
    return f"raycolab-{kind}-{zlib.crc32(name.encode()):08x}"
