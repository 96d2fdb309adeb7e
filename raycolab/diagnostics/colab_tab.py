"""What only matters in a tab of Google Colab: where results are kept, and its rules."""

from __future__ import annotations

from pathlib import Path

from raycolab.diagnostics.check import Finding, good, note

__all__ = ["drive", "rules"]

FAQ = "https://research.google.com/colaboratory/faq.html"


def drive(folder: Path | None) -> Finding:
    """Whether results outlive the tab: `folder` is raycolab's on a mounted Drive, None without one."""
    if folder is not None:
        return good(f"Drive is mounted: a head keeps snapshots of results and its identity in {folder}.")
    return note(
        "Drive is not mounted, so results end with this tab: run `from google.colab import drive; "
        "drive.mount('/content/drive')` in a cell before the head is started, or download them."
    )


def rules() -> Finding:
    """What Colab's FAQ says about what this is."""
    return note(
        "Colab disallows distributed computing workers and SSH without a positive compute-unit balance, and on every"
        f" tier remote proxies and several accounts to get round limits: read {FAQ} and decide for yourself."
    )
