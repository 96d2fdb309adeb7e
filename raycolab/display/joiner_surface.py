"""Where `raycolab.join` shows what happens: one panel updated in place in a notebook, a line per event elsewhere."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from raycolab.display.joiner_panel import JoinerEvent, JoinerView, joiner_bundle
from raycolab.display.surface import NotebookOutput, in_notebook, publish

__all__ = ["JoinerSurface", "joiner_surface", "show_ended"]

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
