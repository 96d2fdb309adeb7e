"""The user's Google credentials."""

from __future__ import annotations

from google.colab import _message, errors


def authenticate_user(clear_output: bool = True, project_id: str | None = None) -> None:
    """Nothing where the VM has credentials already, which needs no kernel; else the page is asked."""
    if _message.page().get("authenticated"):
        return
    _message.blocking_request("request_auth", request={"authType": "auth_user_ephemeral"}, timeout_sec=None)
    raise errors.AuthorizationError("Failed to fetch user credentials")


def authenticate_service_account(clear_output: bool = True) -> None:
    """A key the person uploads."""
    authenticate_user()
