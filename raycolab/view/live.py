"""The head's panel in a notebook, kept true by a thread: who joined, what to read, and no address once it is over.

The cell that shows it ends at once, so nobody else could. All panels of one head in a notebook have one `display_id`
and change together; a kernel that was restarted takes up its own. JupyterLab forgets which output has which id when its
page is loaded again, so no message reaches those it shows then: `Head.shutdown` says what to do.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from raycolab.errors import NoHeadError, RaycolabError
from raycolab.examples import joiner_cell
from raycolab.view.output import NotebookOutput, in_notebook, publish
from raycolab.view.panels import JoinerEvent, JoinerView, head_bundle, joiner_bundle

__all__ = ["HeadView", "JoinerSurface", "head_view", "joiner_surface", "show_ended"]

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


Ask = Callable[[], Mapping[str, Any]]
"""The joiner's `name` and `trial` as its process says; {} when it does not answer."""


class JoinerSurface(Protocol):
    """What the watching tells it."""

    def greet(self, text: str) -> None:
        """How to leave; a panel says that by itself."""

    def say(self, text: str) -> None:
        """A sentence about the watching."""

    def detach(self, text: str) -> None:
        """Somebody stopped watching, and this says what goes on."""

    def happened(self, event: Mapping[str, Any]) -> None:
        """An event of the joiner: its `event`, `text` and `at`, or `error` of a failed one."""

    def look(self) -> None:
        """Time has passed."""

    def close(self) -> None:
        """The watching ends; what is shown now stays."""


def joiner_surface(head: str, ask: Ask, run_dir: str) -> JoinerSurface:
    """The one for where this process runs; `head` is where its head is, and `run_dir` tells joiners apart."""
    return _Panel(head, ask, _display_id(run_dir)) if in_notebook() else _Lines()


def show_ended(head: str, name: str | None, events: Sequence[Mapping[str, Any]], run_dir: str) -> None:
    """Change the panels that show a joiner which nobody watches any more: it has ended, after these events."""
    if in_notebook():
        is_failed = bool(events) and events[-1]["event"] == "failed"
        notes = [str(events[-1]["error"])] if is_failed else []
        shown = tuple(_event(event) for event in events if event["event"] != "failed")
        view = JoinerView(name, "failed" if is_failed else "ended", head, None, shown, notes)
        publish(joiner_bundle(view), _display_id(run_dir), update=True)


class _Lines:
    def greet(self, text: str) -> None:
        self.say(text)

    def detach(self, text: str) -> None:
        self.say(text)

    def say(self, text: str) -> None:
        print(text, flush=True)  # noqa: T201

    def happened(self, event: Mapping[str, Any]) -> None:
        if event["event"] != "failed":  # it is raised
            self.say(event["text"])

    def look(self) -> None:
        """Nothing changes by itself."""

    def close(self) -> None:
        """Every line is printed."""


class _Panel:
    def __init__(self, head: str, ask: Ask, display_id: str) -> None:
        self._head = head
        self._ask = ask
        self._output = NotebookOutput(time.monotonic, display_id)
        self._state = "connecting"
        self._events: list[JoinerEvent] = []
        self._notes: list[str] = []
        self._detached = ""
        self._known: Mapping[str, Any] = {}

    def greet(self, text: str) -> None:
        self._show()

    def detach(self, text: str) -> None:
        self._detached = text
        self._show()

    def say(self, text: str) -> None:
        self._notes.append(text)
        self._show()

    def happened(self, event: Mapping[str, Any]) -> None:
        self._state = event["event"]
        if event["event"] == "failed":
            self._notes.append(str(event["error"]))
        else:
            self._events.append(_event(event))
        self._show()

    def look(self) -> None:
        self._known = {**self._known, **self._ask()}
        self._show()

    def close(self) -> None:
        self._output.flush()

    def _show(self) -> None:
        name, trial = self._known.get("name"), self._known.get("trial")
        events, notes = tuple(self._events), tuple(self._notes)
        view = JoinerView(name, self._state, self._head, trial, events, notes, self._detached)
        self._output.show(joiner_bundle(view))


def _event(event: Mapping[str, Any]) -> JoinerEvent:
    at = "" if "at" not in event else time.strftime("%H:%M:%S", time.localtime(event["at"]))
    return JoinerEvent(at, event["text"])


def _display_id(run_dir: str) -> str:
    """One for all panels of a joiner, whichever cell or kernel shows them."""
    return f"raycolab-joiner-{zlib.crc32(run_dir.encode()):08x}"
