"""Asking the page."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import IPython
from google.colab import errors


class MessageError(errors.Error):
    """The page answered with an error."""


def page() -> dict[str, Any]:
    """The page as it is now."""
    name = os.environ.get("STANDIN_COLAB_PAGE")
    found: dict[str, Any] = json.loads(Path(name).read_text()) if name else {}
    return found


def blocking_request(request_type: str, request: Any = "", timeout_sec: float | None = 5) -> Any:
    """The page's answer; None when nobody answers in time, which a test need not wait for."""
    assert IPython.get_ipython().kernel is not None  # AttributeError where there is no kernel, as in the real one
    state = page()
    if not state.get("open"):
        return None
    if "error" in state:
        raise MessageError(state["error"])
    if request_type == "GetSecret":
        secret = state.get("secrets", {}).get(request["key"])
        return {"exists": False} if secret is None else {"exists": True, **secret}
    return {"consent": state.get("drive_consent", False)}
