"""The cell that makes a joiner of a blank notebook: what it installs, and that it is a cell."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from raycolab.examples import installable, installed_source, joiner_cell

ADDRESS = "tunnel+wss://example.ngrok.app#zlo4_tezc7AmEcm0spw5c_Omz2i0AG8SqJj-xejmYE"
REPOSITORY = "https://github.com/raycolab/raycolab"
WHEEL = "raycolab-0.1.0-py3-none-any.whl"
GIT: dict[str, Any] = {"url": REPOSITORY, "vcs_info": {"vcs": "git", "requested_revision": "main", "commit_id": "ab12"}}


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (None, "raycolab==0.1.0"),
        (GIT, f"git+{REPOSITORY}@ab12"),
        ({**GIT, "subdirectory": "python"}, f"git+{REPOSITORY}@ab12#subdirectory=python"),
        ({"url": f"{REPOSITORY}/{WHEEL}", "archive_info": {}}, f"{REPOSITORY}/{WHEEL}"),
        ({"url": f"file:///content/my%20wheels/{WHEEL}", "archive_info": {}}, f"/content/my wheels/{WHEEL}"),
        ({"url": "file:///root/raycolab", "dir_info": {"editable": True}}, "/root/raycolab"),
    ],
)
def test_what_pip_wrote_down_is_what_it_is_given(written: dict[str, Any] | None, wanted: str) -> None:
    """A name at its version, a git URL at its commit, a wheel's URL, a path: what installs the same again."""
    assert installable(None if written is None else json.dumps(written), "0.1.0") == wanted


def test_the_cell_installs_this_raycolab_and_ray_then_joins() -> None:
    """One line of pip with both, then a join with the whole address."""
    install, *python = [line for line in joiner_cell(ADDRESS).splitlines() if line and not line.startswith("#")]
    assert install == f'%pip install --quiet "{installed_source()}" "ray=={metadata.version("ray")}"'
    assert python == ["import raycolab", f'raycolab.join("{ADDRESS}")']


def test_the_cell_is_a_cell() -> None:
    """IPython turns it into Python."""
    ast.parse(TransformerManager().transform_cell(joiner_cell(ADDRESS)))


def test_a_path_is_said_to_be_one(tmp_path: Path) -> None:
    """What was installed from a folder installs only where that folder is, and the cell says so."""
    package = tmp_path / "raycolab-0.1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: raycolab\nVersion: 0.1.0\n")
    (package / "direct_url.json").write_text(json.dumps({"url": "file:///home/me/raycolab", "dir_info": {}}))
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from raycolab.examples import joiner_cell;"
        " print(joiner_cell('A'))"
    )
    cell = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert cell.startswith("# This tab must have that path too")
    assert '%pip install --quiet "/home/me/raycolab" ' in cell
