"""Google Colab, as far as raycolab asks anything of it: the one package that imports google.colab.

Its secrets and the prompt in their place (`secrets`), Drive (`drive`), the joiner notebooks written there (`tabs`), and
which notebook of which VM this is (`here`). Nothing of google.colab is imported before it is needed, nor elsewhere than
on Colab.
"""

from __future__ import annotations

from raycolab.colab.drive import drive_folder, drive_link
from raycolab.colab.environment import (
    HEAD_HERE,
    JOINER_HERE,
    ONE_VM_PER_FILE,
    OTHER_TAB,
    is_colab,
    release_runtime,
    same_notebook,
    this_notebook,
)
from raycolab.colab.secrets import alone_text, credentials, take_secrets
from raycolab.colab.tabs import joiner_tabs, tabs_text

__all__ = [
    "HEAD_HERE",
    "JOINER_HERE",
    "ONE_VM_PER_FILE",
    "OTHER_TAB",
    "alone_text",
    "credentials",
    "drive_folder",
    "drive_link",
    "is_colab",
    "joiner_tabs",
    "release_runtime",
    "same_notebook",
    "tabs_text",
    "take_secrets",
    "this_notebook",
]
