"""The VM."""

from __future__ import annotations

import os

from google.colab import errors, output


def unassign() -> None:
    """Give the VM back: a request to Colab, then the page disconnects."""
    if not os.environ.get("TBE_RUNTIME_ADDR"):
        raise errors.RuntimeManagementError("Unable to find the runtime management service.")
    with open(os.environ["STANDIN_COLAB_LOG"], "a") as log:
        log.write("unassign\n")
    output.eval_js("disconnect", ignore_result=True)
