"""A sweep's progress: a live line on a terminal, a panel updated in place in a notebook, a line per change when piped.

It only shows, and decides nothing. It is given the sweep and the nodes of `status --json`. Everything goes to stderr,
so that stdout can carry results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
from rich.console import Console
from rich.live import Live

from raycolab.errors import Detached
from raycolab.summary import NodeStatus, SweepStatus
from raycolab.text import counted, duration_text, tally_text
from raycolab.view.output import NotebookOutput
from raycolab.view.pages import HTML, PLAIN
from raycolab.view.panels import sweep_panel
from raycolab.view.tables import best_text, plain, warning_lines

__all__ = ["SweepProgress", "sweep_line"]

_PLAIN_GAP_S = 1.0
"""Least time between two plain lines, so that a log of a fast sweep stays a log."""

_REFRESH_HZ = 4
_REST = frozenset({"PAUSED", "HELD", "STOPPED", "CANCELLED", "QUEUED", "DECLARED"})
"""States a person must see, or the unmoving count would look like a hang."""


class SweepProgress:
    """Shows one sweep while the block runs: `with SweepProgress() as progress: progress.update(sweep, nodes)`.

    The last line is printed whatever ends the block. Calls come from one thread.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True)
        self._watch = _Watch(clock)
        self._surface: _Surface
        if self._console.is_jupyter:
            self._surface = _Notebook(self._watch)
        elif self._console.is_terminal and not self._console.is_dumb_terminal:  # which cannot redraw a line
            self._surface = _Terminal(self._watch, self._console)
        else:
            self._surface = _Plain(self._watch, self._console)

    def __enter__(self) -> Self:
        self._watch.began_at = self._watch.clock()
        self._surface.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Detached):
            self._watch.notes = [str(error)]
        self._surface.stop()

    def update(
        self,
        sweep: SweepStatus | Mapping[str, Any],
        nodes: Sequence[NodeStatus] | Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Shows this status from now on."""
        before = self._watch.changes()
        self._watch.sweep = msgspec.convert(sweep, SweepStatus)
        self._watch.nodes = msgspec.convert(nodes, list[NodeStatus])
        self._surface.looked(self._watch.changes() != before)


class _Watch:
    """What is known of the sweep that is watched, and for how long it has been."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.began_at = clock()
        self.sweep: SweepStatus | None = None
        self.nodes: list[NodeStatus] = []
        self.notes: list[str] = []  # about the watching itself

    @property
    def elapsed_s(self) -> float:
        """Since the watching began."""
        return self.clock() - self.began_at

    def lines(self) -> list[str]:
        """The line, and the warnings below it."""
        if self.sweep is None:
            return []
        return [sweep_line(self.sweep, self.nodes, self.elapsed_s), *warning_lines([self.sweep], self.nodes)]

    def changes(self) -> object:
        """What is a change to a person: not the ETA, nor what a node computes or has sent."""
        if self.sweep is None:
            return None
        sweep = msgspec.structs.replace(self.sweep, eta_s=None)
        return sweep, len(self.nodes), _loading(sweep, self.nodes), warning_lines([sweep], self.nodes)


def sweep_line(sweep: SweepStatus, nodes: Sequence[NodeStatus], elapsed_s: float) -> str:
    """`digits  137/480  ok 120  failed 9  running 5  3 nodes  1 min 4 s, 2 min left  best acc 0.98 (svc on iris)`."""
    parts = [sweep.name, tally_text(sweep.counts)]
    if sweep.state in _REST:
        parts.append(sweep.state.lower())
    if nodes:
        parts.append(counted(len(nodes), "node"))
    elapsed = duration_text(elapsed_s)
    parts.append(elapsed if sweep.eta_s is None else f"{elapsed}, {duration_text(sweep.eta_s)} left")
    if sweep.best is not None:
        parts.append(f"best {best_text(sweep.best)}")
    return "  ".join([*parts, *_loading(sweep, nodes)])


def _loading(sweep: SweepStatus, nodes: Sequence[NodeStatus]) -> list[str]:
    """Where MAIN is being loaded for the longest time, while that is what everybody waits for."""
    loading = sorted((node.setup.since, node.name, str(node.setup)) for node in nodes if node.setup is not None)
    if sweep.running or not loading:
        return []
    _, name, text = loading[0]
    return [f"{name} {text}" + (f", and {counted(len(loading) - 1, 'more node')}" if loading[1:] else "")]


class _Surface:
    """Where the sweep is shown."""

    def __init__(self, watch: _Watch) -> None:
        self._watch = watch

    def start(self) -> None:
        """Nothing is known yet."""

    def looked(self, is_change: bool) -> None:
        """There is a newer status; whether it is worth a line."""

    def stop(self) -> None:
        """What is shown now stays."""


class _Terminal(_Surface):
    """Lines redrawn in place by rich's own thread, so that the clock goes on between changes."""

    def __init__(self, watch: _Watch, console: Console) -> None:
        super().__init__(watch)
        self._console = console
        # stdout belongs to results: rich must not reroute it to this console, which is stderr's.
        self._live = Live(
            console=console,
            get_renderable=lambda: plain("\n".join(watch.lines())),
            refresh_per_second=_REFRESH_HZ,
            redirect_stdout=False,
            transient=True,
        )

    def start(self) -> None:
        self._live.start()

    def stop(self) -> None:
        self._live.stop()
        for line in self._watch.lines():
            self._console.print(plain(line))


class _Plain(_Surface):
    """A plain line per change, at most one in `_PLAIN_GAP_S`, a warning once; the last state is always printed."""

    def __init__(self, watch: _Watch, console: Console) -> None:
        super().__init__(watch)
        self._console = console
        self._printed_at: float | None = None
        self._is_owed = False
        self._warnings: list[str] = []  # of the last print

    def looked(self, is_change: bool) -> None:
        if not is_change:
            return
        now = self._watch.clock()
        self._is_owed = self._printed_at is not None and now - self._printed_at < _PLAIN_GAP_S
        if not self._is_owed:
            self._print()

    def stop(self) -> None:
        if self._is_owed:
            self._print()

    def _print(self) -> None:
        line, *warnings = self._watch.lines()
        for text in (line, *(warning for warning in warnings if warning not in self._warnings)):
            self._console.print(plain(text), soft_wrap=True)
        self._warnings = warnings
        self._printed_at = self._watch.clock()
        self._is_owed = False


class _Notebook(_Surface):
    """The panel, one output updated in place; its clock, ETA and trials move without a change."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__(watch)
        self._output = NotebookOutput(watch.clock)

    def looked(self, is_change: bool) -> None:
        watch = self._watch
        if watch.sweep is not None:
            panel = sweep_panel(watch.sweep, watch.nodes, watch.elapsed_s, watch.notes)
            self._output.show({HTML: panel, PLAIN: "\n".join([*watch.lines(), *watch.notes])})

    def stop(self) -> None:
        self.looked(True)
        self._output.flush()
