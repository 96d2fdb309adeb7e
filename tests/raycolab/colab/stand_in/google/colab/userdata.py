"""Secrets."""

from __future__ import annotations

import re

from google.colab import _message, errors


class SecretNotFoundError(errors.Error):
    """No secret of that name."""

    def __init__(self, key: str) -> None:
        super().__init__(f"There is no secret {key}.")


class NotebookAccessError(Exception):
    """The notebook may not have it; as in the real one, this is no errors.Error."""

    def __init__(self, key: str) -> None:
        super().__init__(f"This notebook may not read {key}.")


class TimeoutException(errors.Error):
    """The page is closed."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Nobody answered for {key}.")


def get(key: str) -> str:
    """A secret's value."""
    if not key or not isinstance(key, str) or re.search(r"\s", key):
        raise ValueError("not the name of a secret")
    answer = _message.blocking_request("GetSecret", request={"key": key}, timeout_sec=10)
    if not answer:
        raise TimeoutException(key)
    if not answer.get("exists"):
        raise SecretNotFoundError(key)
    if not answer.get("access"):
        raise NotebookAccessError(key)
    return str(answer.get("payload", ""))
