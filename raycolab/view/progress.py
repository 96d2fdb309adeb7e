"""A sweep's progress: a live line on a terminal, one updated in place in a notebook, a line per change when piped.

It only shows, and decides nothing. What it is fed are the sweep and the nodes of `status --json`, see
`raycolab.node.status`. Everything goes to stderr, so that stdout can carry results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from raycolab.errors import Detached
from raycolab.text import duration_text, tally_text
from raycolab.view.html import HTML, PLAIN, Bundle
from raycolab.view.output import NotebookOutput
from raycolab.view.panels import sweep_panel
from raycolab.view.tables import best_text, warning_lines

__all__ = ["SweepProgress", "sweep_line"]

_PLAIN_GAP_S = 1.0
"""Least time between two plain lines, so that a log of a fast sweep stays a log."""

_REFRESH_HZ = 4
_REST = frozenset({"PAUSED", "HELD", "STOPPED", "CANCELLED", "QUEUED", "DECLARED"})
"""States a person must see, or the unmoving count would look like a hang."""


class SweepProgress:
    """Shows one sweep while the block runs: `with SweepProgress() as progress: progress.update(status, nodes)`.

    The last line is printed whatever ends the block. Calls come from one thread.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._started_at = clock()
        self._sweep: Mapping[str, Any] | None = None
        self._nodes: Sequence[Mapping[str, Any]] = ()
        self._told: object = None  # what the last line was about
        self._notes: tuple[str, ...] = ()  # about the watching
        self._surface: _Surface
        if self._console.is_jupyter:
            self._surface = _Notebook(self._bundle, clock)
        elif self._console.is_terminal and not self._console.is_dumb_terminal:  # which cannot redraw a line
            self._surface = _Terminal(self._console, self._lines)
        else:
            self._surface = _Plain(self._console, self._lines, clock)

    def __enter__(self) -> Self:
        self._started_at = self._clock()
        self._surface.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Detached):
            self._notes = (str(error),)
        self._surface.stop()

    def update(self, sweep: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]] = ()) -> None:
        """Shows this status from now on."""
        self._sweep, self._nodes = sweep, nodes
        told = _worth_a_line(sweep, nodes)
        is_news, self._told = told != self._told, told
        self._surface.looked(is_news)

    def _lines(self) -> list[str]:
        if self._sweep is None:
            return []
        line = sweep_line(self._sweep, self._nodes, self._clock() - self._started_at)
        return [line, *warning_lines([self._sweep], self._nodes)]

    def _bundle(self) -> Bundle | None:
        """The panel and its twin; None before the first status."""
        if self._sweep is None:
            return None
        elapsed_s = self._clock() - self._started_at
        twin = "\n".join([*self._lines(), *self._notes])
        return {HTML: sweep_panel(self._sweep, self._nodes, elapsed_s, self._notes), PLAIN: twin}


def _worth_a_line(sweep: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> object:
    """What is a change to a person: not the ETA, nor what a node computes or has sent."""
    return {**sweep, "eta_s": None}, len(nodes), warning_lines([sweep], nodes)


def sweep_line(sweep: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]], elapsed_s: float) -> str:
    """`digits  137/480  ok 120  failed 9  running 5  3 nodes  1 min 4 s, 2 min left  best acc 0.98 (svc on iris)`."""
    parts = [str(sweep.get("name", "")), tally_text(sweep)]
    state = str(sweep.get("state", ""))
    if state in _REST:
        parts.append(state.lower())
    if nodes:
        parts.append("1 node" if len(nodes) == 1 else f"{len(nodes)} nodes")
    eta_s = sweep.get("eta_s")
    elapsed = duration_text(elapsed_s)
    parts.append(elapsed if eta_s is None else f"{elapsed}, {duration_text(eta_s)} left")
    if best := best_text(sweep.get("best")):
        parts.append(f"best {best}")
    return "  ".join(part for part in parts if part)


class _Surface(Protocol):
    """Where the line is shown."""

    def start(self) -> None:
        """Nothing is known yet."""

    def looked(self, is_news: bool) -> None:
        """There is a newer status; whether it is worth a line."""

    def stop(self) -> None:
        """What is shown now stays."""


class _Terminal:
    """Lines redrawn in place by rich's own thread, so that the clock goes on between changes."""

    def __init__(self, console: Console, lines: Callable[[], list[str]]) -> None:
        self._console = console
        self._lines = lines
        # stdout belongs to results: rich must not reroute it to this console, which is stderr's.
        self._live = Live(
            console=console,
            get_renderable=lambda: Text("\n".join(lines())),
            refresh_per_second=_REFRESH_HZ,
            redirect_stdout=False,
            transient=True,
        )

    def start(self) -> None:
        self._live.start()

    def looked(self, is_news: bool) -> None:
        """Nothing to do: the next redraw shows it."""

    def stop(self) -> None:
        self._live.stop()
        for line in self._lines():
            self._console.print(Text(line))


class _Plain:
    """A plain line per change, at most one in `_PLAIN_GAP_S`, a warning once; the last state is always printed."""

    def __init__(self, console: Console, lines: Callable[[], list[str]], clock: Callable[[], float]) -> None:
        self._console = console
        self._lines = lines
        self._clock = clock
        self._printed_at: float | None = None
        self._is_owed = False
        self._told: list[str] = []  # the warnings of the last print

    def start(self) -> None:
        """Nothing to show yet."""

    def looked(self, is_news: bool) -> None:
        if not is_news:
            return
        now = self._clock()
        self._is_owed = self._printed_at is not None and now - self._printed_at < _PLAIN_GAP_S
        if not self._is_owed:
            self._print(now)

    def stop(self) -> None:
        if self._is_owed:
            self._print(self._clock())

    def _print(self, now: float) -> None:
        line, *told = self._lines()
        for text in (line, *(warning for warning in told if warning not in self._told)):
            self._console.print(Text(text), soft_wrap=True)
        self._told = told
        self._printed_at = now
        self._is_owed = False


class _Notebook:
    """The panel, one output updated in place."""

    def __init__(self, bundle: Callable[[], Bundle | None], clock: Callable[[], float]) -> None:
        self._bundle = bundle
        self._output = NotebookOutput(clock)

    def start(self) -> None:
        """Nothing to show yet."""

    def looked(self, is_news: bool) -> None:
        """Its clock, ETA and trials move without news."""
        bundle = self._bundle()
        if bundle is not None:
            self._output.show(bundle)

    def stop(self) -> None:
        self.looked(True)
        self._output.flush()
