"""JavaScript in the page."""

from __future__ import annotations

from typing import Any

import IPython

__all__ = ["clear", "eval_js"]


def eval_js(script: str, ignore_result: bool = False, timeout_sec: float | None = None) -> Any:
    """Run it in the page; AttributeError without a kernel."""
    assert IPython.get_ipython().kernel is not None
    return None if ignore_result else {}


def clear(wait: bool = False, output_tags: tuple[str, ...] = ()) -> None:
    """Works without a page: it only displays."""
