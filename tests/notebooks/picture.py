"""Make the README's picture again: the panel of the example's sweep, half done, on the head and five joiners.

    python -m tests.notebooks.picture examples/running.png

Linux, with what CONTRIBUTING names for the tests. Everything on it is from a sweep that runs while it is taken.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

import raycolab
from tests.notebooks.browser import WAIT_S, come_one_by_one, open_lab
from tests.notebooks.kernels import EXAMPLES, NotebookTab, Opened, read_example

JOINERS = 5
JOBS = 16 * 60  # as head.ipynb has them
WIDTH, HEIGHT, SCALE = 1200, 1200, 1.25
HALF_S = 600


def main(path: Path) -> None:
    """Take it."""
    folder = Path(tempfile.mkdtemp(prefix="rct-"))
    with contextlib.ExitStack() as ending:
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        tabs = [NotebookTab(folder, f"tab-{number}", cpu=number) for number in range(1 + JOINERS)]
        for tab in tabs:
            ending.callback(tab.end)
        shutil.copy(EXAMPLES / "head.ipynb", folder)
        head = open_lab(tabs[0], folder)
        head.open("head.ipynb")
        head.fill("SOURCE", "")
        head.fill("PROVIDER", "unix")
        head.run_all()
        address = head.selected("start", "pre.address", WAIT_S)
        head.wait_for("run", f"/ {JOBS}", WAIT_S)
        sweep = raycolab.find("sample_experiment", data_dir=tabs[0].data_dir)
        sweep.pause()  # a small machine takes long to make six sessions, and would be through
        joiners = [Opened.of(read_example("joiner.ipynb", ADDRESS=address), tab) for tab in tabs[1:]]
        come_one_by_one(head, joiners, wait_s=HALF_S)
        sweep.resume()
        head.resize(WIDTH, HEIGHT, SCALE)
        everyone = "".join(rf"(?=.*joiner-{number}\s+[1-9]\d* done)" for number in range(1, JOINERS + 1))
        head.wait_for("run", rf"{everyone}.*\b[5-9]\d\d / {JOBS}\b", HALF_S)
        shutil.copyfile(head.picture("running", "run", ".raycolab"), path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
