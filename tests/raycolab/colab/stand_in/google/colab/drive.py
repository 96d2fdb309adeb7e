"""Drive: mounting makes the folder."""

from __future__ import annotations

from pathlib import Path

from google.colab import _message


def mount(mountpoint: str, force_remount: bool = False, timeout_ms: int = 120000, readonly: bool = False) -> None:
    """Mount; the page is asked for consent first, also when it is mounted already."""
    if " " in mountpoint:
        raise ValueError("no spaces")
    answer = _message.blocking_request("request_auth", request={"authType": "dfs_ephemeral"}, timeout_sec=120)
    if (Path(mountpoint) / "MyDrive").is_dir() and not force_remount:
        print(f"already at {mountpoint}")  # noqa: T201 - as the real one
        return
    if not (answer or {}).get("consent"):
        raise ValueError("mount failed")
    (Path(mountpoint) / "MyDrive").mkdir(parents=True)
    print(f"mounted at {mountpoint}")  # noqa: T201 - as the real one


def flush_and_unmount(timeout_ms: int = 24 * 60 * 60 * 1000) -> None:
    """Unmounting needs no kernel."""
