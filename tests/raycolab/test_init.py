"""`raycolab init`: copies of the examples to begin with, all or none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raycolab.errors import UsageError
from raycolab.examples import example_path, installed_source, write_examples
from raycolab.main.notebook import MainNotebook
from raycolab.spec.file import load_sweep_file
from raycolab.spec.spec import check_fits
from tests.raycolab.command_line import Run

NAMES = ["head.ipynb", "joiner.ipynb", "MAIN.ipynb", "sweep.yaml"]


class TestWhatIsWritten:
    """In an empty place."""

    def test_the_notebooks_and_the_sweep_file_are_those_of_the_package(self, run: Run, here: Path) -> None:
        """In a folder that is made; their paths are printed, and what to do next."""
        ended = run("init", "work/my sweep")
        assert ended.code == 0
        assert ended.out.splitlines() == [f"work/my sweep/{name}" for name in NAMES]
        for name in NAMES:
            written = (here / "work" / "my sweep" / name).read_text("utf-8")
            source = "git+https://github.com/raycolab/raycolab"
            assert written == example_path(name).read_text("utf-8").replace(
                f'SOURCE = \\"{source}\\"', f'SOURCE = \\"{installed_source()}\\"'
            )
            assert (f'SOURCE = \\"{installed_source()}\\"' in written) == (name in ("head.ipynb", "joiner.ipynb"))
        assert "open work/my sweep/head.ipynb" in ended.err
        assert "raycolab submit 'work/my sweep'/sweep.yaml" in ended.err

    def test_the_sweep_file_leads_to_the_main_beside_it(self, tmp_path: Path) -> None:
        """So `raycolab submit` works there, and what is edited is what runs."""
        write_examples(tmp_path)
        file = load_sweep_file(tmp_path / "sweep.yaml")
        assert file.main_path == tmp_path / "MAIN.ipynb"
        check_fits(file.spec, MainNotebook.load(file.main_path).signature())

    def test_an_example_there_is_not_is_told_those_there_are(self) -> None:
        """By their names."""
        with pytest.raises(UsageError, match=r"^There is no example 'main\.py'; there are MAIN\.ipynb, head\.ipynb, "):
            example_path("main.py")

    def test_a_folder_with_other_files_will_do(self, run: Run, here: Path) -> None:
        """They stay as they are."""
        (here / "MAIN.ipynb").unlink()
        (here / "sweep.yaml").unlink()
        (here / "notes.txt").write_text("mine")
        assert run("init", ".").code == 0
        assert (here / "notes.txt").read_text() == "mine"
        assert {*NAMES, "notes.txt"} <= set(os.listdir(here))


class TestWhatIsRefused:
    """Exit code 2, one sentence, and nothing is written."""

    def test_a_file_that_is_there_is_not_overwritten(self, run: Run, here: Path) -> None:
        """Each of them is named."""
        before = {path.name: path.read_bytes() for path in here.iterdir()}
        ended = run("init", ".")
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == (
            ". has MAIN.ipynb and sweep.yaml already, and nothing is overwritten: name another folder, or move them "
            "away.\n"
        )
        assert {path.name: path.read_bytes() for path in here.iterdir()} == before

    def test_a_link_to_nowhere_is_there_too(self, tmp_path: Path) -> None:
        """Writing would make a file elsewhere."""
        (tmp_path / "head.ipynb").symlink_to(tmp_path / "elsewhere.ipynb")
        with pytest.raises(UsageError, match=r"has head\.ipynb already"):
            write_examples(tmp_path)
        assert os.listdir(tmp_path) == ["head.ipynb"]

    @pytest.mark.parametrize(
        ("folder", "sentence"),
        [
            (
                "MAIN.ipynb",
                "MAIN.ipynb cannot be written to (Not a directory): name a folder that you may write to, with room.\n",
            ),
            ("MAIN.ipynb/deep/er", "MAIN.ipynb/deep/er cannot be written to (Not a directory): name a folder that"),
            ("/proc/sweep", "/proc/sweep cannot be written to (No such file or directory): name a folder that you may"),
            ("~nobody-is-called-so", "The folder ~nobody-is-called-so: there is no such user on this machine."),
            ("\udcff", r"The folder '\udcff' is not text in UTF-8: give another path."),
        ],
    )
    def test_a_folder_that_cannot_be(self, run: Run, folder: str, sentence: str) -> None:
        """Whatever was typed."""
        ended = run("init", folder)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith(sentence)

    def test_what_was_begun_is_taken_back(self, here: Path) -> None:
        """Here the second folder has too long a name: the first is gone again."""
        with pytest.raises(UsageError, match="cannot be written to"):
            write_examples(here / "new" / ("x" * 300))
        assert not (here / "new").exists()
