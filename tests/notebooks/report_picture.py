"""Make the README's picture of a report again: of the demo's sweep, with trials enough to see something.

    python -m tests.notebooks.report_picture examples/report.png

Linux, with Chromium. Everything on it is from a sweep that this runs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

import raycolab
from tests.programs import needs

WIDTH, HEIGHT = 1200, 1130


def main(path: Path) -> None:
    """Take it."""
    with tempfile.TemporaryDirectory(prefix="rct-") as folder:
        demo = ["-m", "raycolab", "demo", "--jobs-per-pair", "12", "--data-dir", f"{folder}/data"]
        subprocess.run([sys.executable, "-P", *demo], check=True)
        report = raycolab.find("sample_experiment", data_dir=f"{folder}/data").results.report(f"{folder}/report.html")
        taken = Path(folder, "report.png")
        subprocess.run(
            [
                *(needs("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *(f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={taken}", report.as_uri()),
            ],
            check=True,
        )
        # A quarter of the size: few colours are enough for a page.
        Image.open(taken).convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
