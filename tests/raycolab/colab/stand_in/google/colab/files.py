"""Files between the page and the VM."""

from __future__ import annotations

from pathlib import Path

import IPython
from google.colab import output


def upload(target_dir: str = "") -> dict[str, bytes]:
    """What the person at the page chooses."""
    found: dict[str, bytes] = output.eval_js("upload")
    return found


def upload_file(filename: str) -> None:
    """One file, saved under this name."""
    output.eval_js("upload")


def download(filename: str) -> None:
    """Send a file to the page, over the kernel's comms."""
    if not Path(filename).exists():
        raise FileNotFoundError(filename)
    assert IPython.get_ipython().kernel.comm_manager


def view(filepath: str) -> None:
    """Show a file in the page."""
    output.eval_js("view", ignore_result=True)
