"""Errors."""


class Error(Exception):
    """Base of most."""


class AuthorizationError(Error):
    """No credentials."""


class RuntimeManagementError(Error):
    """Colab did not do what was asked of the VM."""
