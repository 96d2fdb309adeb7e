"""Stands in for what the engine's slots import until they do without it; nothing shows what a slot runs this way."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["TrialSign"]


class TrialSign:
    """Shows nothing."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> TrialSign:
        """One that shows nothing."""
        return cls()

    def show(self, text: str) -> None:
        """Show nothing."""

    def clear(self) -> None:
        """Show nothing."""
