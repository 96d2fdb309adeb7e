"""A stand-in for the package google.colab, to be put on sys.path: what its source does, without Colab's page.

Written from reading googlecolab/colabtools (April 2026), no line of which is here. The page is a JSON file that
STANDIN_COLAB_PAGE names, so that tests, kernels and worker processes see the same one:

    {"open": true,                                          somebody has the notebook open, and it answers
     "secrets": {"NAME": {"payload": "...", "access": true}},
     "error": "...",                                        what the page answers instead, as an error
     "drive_consent": true, "authenticated": false}

What the notebook asks of Colab itself (unassign) is appended to the file STANDIN_COLAB_LOG names. As in the real one,
whatever needs the page fails with AttributeError where there is no kernel.
"""

from __future__ import annotations

from google.colab import auth, drive, files, output, runtime

__all__ = ["auth", "drive", "files", "output", "runtime"]
