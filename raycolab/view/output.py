"""One output of a notebook cell that is updated in place: HTML and plain text, by a `display_id` instead of widgets.

So it is still there after the page is loaded again, and the saved file has its last state. IPython is imported only
where it runs already.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from typing import Any

from raycolab.view.pages import Bundle

__all__ = ["NotebookOutput", "in_notebook", "publish"]

_LEAST_GAP_S = 1.0
_LONGEST_GAP_S = 5.0
_PATIENCE = 300  # the gap is the time watched divided by this: nobody counts along for hours


class NotebookOutput:
    """Show it with `show`; what comes too soon after the last is shown by a later call, or by `flush`."""

    def __init__(self, clock: Callable[[], float], display_id: str | None = None) -> None:
        """Outputs of one `display_id` are updated together, those of an earlier run of the cell too."""
        self._clock = clock
        self._display_id = display_id or f"raycolab-{uuid.uuid4().hex}"
        self._first_at: float | None = None  # when it was shown first
        self._shown_at = 0.0
        self._shown: Bundle | None = None
        self._owed: Bundle | None = None

    def show(self, bundle: Bundle) -> None:
        """This from now on; at most once a second, and less often after some minutes."""
        self._owed = None if bundle == self._shown else bundle
        now = self._clock()
        watched_s = now - (now if self._first_at is None else self._first_at)
        gap_s = min(max(_LEAST_GAP_S, watched_s / _PATIENCE), _LONGEST_GAP_S)
        if self._first_at is None or now - self._shown_at >= gap_s:
            self.flush()

    def flush(self) -> None:
        """Show what is owed, now."""
        bundle, self._owed = self._owed, None
        if bundle is None:
            return
        publish(bundle, self._display_id, update=self._first_at is not None)
        self._shown, self._shown_at = bundle, self._clock()
        if self._first_at is None:
            self._first_at = self._shown_at


def publish(bundle: Bundle, display_id: str, *, update: bool) -> None:
    """Make an output of this id, or change every one there is."""
    from IPython.display import publish_display_data

    data: dict[str, Any] = dict(bundle)
    transient = {"display_id": display_id}
    publish_display_data(data, transient=transient, update=update)  # type: ignore[no-untyped-call]  # IPython's


def in_notebook() -> bool:
    """Whether outputs of this process are shown on a notebook's page."""
    if "IPython" not in sys.modules:
        return False
    from rich.console import Console

    return Console().is_jupyter
