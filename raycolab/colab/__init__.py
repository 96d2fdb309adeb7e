"""Google Colab, as far as raycolab asks anything of it: the one package that imports google.colab.

environment  whether this is a Colab VM, which notebook of it this is, and giving the VM back
secrets      ngrok's authtoken and the secrets for trials, and the prompt in their place
drive        raycolab's folder on Drive, and the joiner notebooks that are written there

Nothing of google.colab is imported before it is needed, nor anywhere but on Colab.
"""

from __future__ import annotations

from raycolab.colab.drive import drive_folder, drive_link, joiner_tabs, tabs_text
from raycolab.colab.environment import (
    HEAD_HERE,
    JOINER_HERE,
    ONE_VM_PER_FILE,
    OTHER_TAB,
    has_kernel,
    is_colab,
    release_runtime,
    same_notebook,
    show_port,
    this_notebook,
)
from raycolab.colab.secrets import alone_text, credentials, take_secrets

__all__ = [
    "HEAD_HERE",
    "JOINER_HERE",
    "ONE_VM_PER_FILE",
    "OTHER_TAB",
    "alone_text",
    "credentials",
    "drive_folder",
    "drive_link",
    "has_kernel",
    "is_colab",
    "joiner_tabs",
    "release_runtime",
    "same_notebook",
    "show_port",
    "tabs_text",
    "take_secrets",
    "this_notebook",
]
