"""The command line without a cluster: its help, the results of a database, and streams that fail."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import pytest

from raycolab.cli.common import show
from raycolab.cli.program import cli
from raycolab.cli.program import run as run_program
from raycolab.view.tables import text_table
from tests.raycolab.command_line import Run
from tests.raycolab.scripted_head import declare_stored
from tunnel.address import PIN_BYTES, SECRET_BYTES, JoinAddress, unix_url


class TestHelp:
    """`--help` reads well."""

    def test_the_list_of_commands(self, run: Run) -> None:
        """Every command under a heading with a whole sentence, and what each exit code means."""
        ended = run("--help")
        assert (ended.code, ended.err) == (0, "")
        listings = re.findall(r"^Commands .*:\n((?:  .*\n)+)", ended.out, re.MULTILINE)
        listed = re.findall(r"^  ([a-z]+) +(\S.*)$", "".join(listings), re.MULTILINE)
        assert sorted(name for name, _ in listed) == sorted(cli.commands)
        assert all(text.endswith(".") and not text.endswith("...") for _, text in listed)
        codes = " ".join(ended.out.partition("Exit codes: ")[2].split())
        assert re.findall(r"(?:^|; )(\d+) ", codes) == ["0", "1", "2", "3", "130"]

    @pytest.mark.parametrize("command", sorted(cli.commands))
    def test_every_option_is_explained(self, run: Run, command: str) -> None:
        """Usage, a sentence, an example that is that command, and a text for each option."""
        ended = run(command, "--help")
        assert (ended.code, ended.err) == (0, "")
        assert re.search(rf"^  Examples?:\n    raycolab {command}\b", ended.out, re.MULTILINE)
        usage, _, options = ended.out.partition("Options:\n")
        assert re.match(rf"Usage: raycolab {command} \[OPTIONS\].*\n\n  [A-Z][^\n]+\.", usage)
        for entry in re.split(r"\n  (?=-)", "\n" + options)[1:]:
            assert re.search(r"(\s{2}|\n\s+)[A-Z]", entry), entry

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_completion(self, shell: str) -> None:
        """The line of the help gives a shell its completion."""
        program = [sys.executable, "-P", "-c", "import sys; sys.argv[0] = 'raycolab'; import raycolab.__main__"]
        done = subprocess.run(
            program, env={**os.environ, "_RAYCOLAB_COMPLETE": f"{shell}_source"}, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "_RAYCOLAB_COMPLETE=" in done.stdout

    def test_no_command_is_a_usage_error(self, run: Run) -> None:
        """As is one that there is not."""
        assert run("frobnicate").code == 2
        assert "No such command 'frobnicate'" in run("frobnicate").err

    def test_the_version(self, run: Run) -> None:
        """On stdout."""
        assert re.fullmatch(r"raycolab, version \S+\n", run("--version").out)


class TestResults:
    """`raycolab results`, which needs no cluster."""

    def test_the_table(self, run: Run, finished: None) -> None:
        """Counts, pairs, the best, and each cause of failures."""
        ended = run("results", "sample")
        best = re.search(r"x=[\d.e-]+", ended.out)
        assert best is not None
        assert (ended.code, ended.err) == (0, "")
        assert [line.rstrip() for line in ended.out.splitlines()] == [
            "sample: 3/3  ok 2  failed 1  running 0",
            "score (max)  iris",
            "svc          0.75",
            f"best score 0.75: svc on iris, {best.group()} (trial 1)",
            "1 trial: ValueError at cell 0: too bad",
        ]

    def test_the_best_is_an_object(self, run: Run, finished: None) -> None:
        """Of the same keys."""
        best = json.loads(run("results", "sample", "--best").out)
        assert (best["trial_id"], best["score"]) == ("sample-1", 0.75)

    def test_no_best_yet(self, run: Run, here: Path) -> None:
        """A sentence, and nothing on stdout."""
        declare_stored(here / "data", "empty", main="MAIN.ipynb", models={"svc": {"x": 1.0}})
        ended = run("results", "empty", "--best")
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == "The sweep 'empty' has no finished trial with a metric yet: wait for one.\n"

    @pytest.mark.parametrize("kind", [(), ("--format", "json"), ("--best",)])
    def test_an_unknown_name(self, run: Run, finished: None, kind: tuple[str, ...]) -> None:
        """What was meant, and what there is."""
        ended = run("results", "sampel", *kind)
        assert (ended.code, ended.out) == (2, "")
        assert "(did you mean 'sample'?): there is sample." in ended.err

    @pytest.mark.parametrize("name", ["", "汉字", "\udcff", "a" * 10_000, "'; drop table sweeps; --", "[bold]"])
    def test_any_name_may_be_asked_for(self, run: Run, finished: None, name: str) -> None:
        """None of them is known."""
        ended = run("results", name)
        assert (ended.code, ended.out) == (2, "")
        assert "o sweep " in ended.err

    def test_where_nothing_was_ever_submitted(self, run: Run, here: Path) -> None:
        """Looking makes nothing."""
        ended = run("results", "sample")
        assert ended.code == 2
        assert "nothing was ever submitted with the data directory" in ended.err
        assert not (here / "data").exists()


class TestStreams:
    """What the program is given to write to may be anything."""

    @staticmethod
    def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A shell's line in which $0 is raycolab."""
        command = f"{sys.executable} -P -m raycolab"
        return subprocess.run(
            ["sh", "-c", line.replace("raycolab", command, 1)],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    @pytest.mark.parametrize(("kind", "unbuffered"), [("table", "1"), ("json", "")])
    def test_a_full_disk_is_told(self, finished: None, kind: str, unbuffered: str) -> None:
        """In a sentence, once."""
        ended = self.shell(f"raycolab results sample --format {kind} > /dev/full", PYTHONUNBUFFERED=unbuffered)
        sentence = "The output could not be written (No space left on device): make room for it, or send it elsewhere."
        assert (ended.returncode, ended.stderr) == (1, f"{sentence}\n")

    @pytest.mark.parametrize(("command", "code"), [("status", 3), ("frobnicate", 2)])
    def test_a_full_stderr_changes_no_exit_code(self, here: Path, command: str, code: int) -> None:
        """Nobody can read the sentence, and a script can still tell."""
        assert self.shell(f"raycolab {command} 2> /dev/full").returncode == code

    @pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
    def test_closed_streams_are_no_error(self, here: Path, closed: str) -> None:
        """As a service manager may start it."""
        assert self.shell(f"raycolab status {closed}").returncode == 3

    def test_a_reader_that_leaves_is_no_traceback(self, finished: None) -> None:
        """`| head -1`."""
        ended = self.shell("raycolab results sample --format csv | true")
        assert ended.stderr == ""


class TestABug:
    """Something nobody prepared for ends with 1 and a sentence."""

    @staticmethod
    def command(error: Exception) -> click.Command:
        """One that raises."""

        @click.command()
        def broken() -> None:
            raise error

        return broken

    def test_its_traceback_is_kept_in_a_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """For its owner alone; the sentence says where, and what to do with it."""
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        assert run_program(self.command(ZeroDivisionError("by zero")), []) == 1
        said = capsys.readouterr()
        (kept,) = tmp_path.iterdir()
        assert (said.out, said.err) == (
            "",
            f"This is a bug in raycolab (ZeroDivisionError), not your doing. Its traceback is in {kept}: please report "
            "it with what you typed, without the join address.\n",
        )
        assert kept.stat().st_mode & 0o777 == 0o600
        assert kept.read_text().endswith("ZeroDivisionError: by zero\n")

    def test_a_traceback_that_cannot_be_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Is not shown either."""
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
        assert run_program(self.command(KeyError("x")), []) == 1
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert said.endswith(
            f"Its traceback could not be kept (No such file or directory): free some space in {tmp_path}/none and try"
            " again.\n"
        )

    def test_a_file_that_cannot_be_used_is_none(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The file is named, with the system's word."""
        assert run_program(self.command(PermissionError(13, "Permission denied", "/root/x")), []) == 1
        assert capsys.readouterr().err == "/root/x cannot be used (Permission denied): mend that, then try again.\n"


def test_an_interrupted_command_ends_with_130(here: Path) -> None:
    """Ctrl-C, here while it reads a sweep file that does not come."""
    os.mkfifo(here / "pipe")
    command = [sys.executable, "-P", "-m", "raycolab", "submit", "pipe"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with (here / "pipe").open("w"):  # which waits until it is being read
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said.strip()) == (130, "")


def test_ctrl_c_of_a_joiner_ended_with_0(here: Path) -> None:
    """Whoever serves in the foreground and is interrupted ends with 130 too; SIGTERM is how to end it with 0."""
    address = JoinAddress(unix_url(str(here / "nobody")), b"p" * PIN_BYTES, b"s" * SECRET_BYTES)
    for ends, code in ((signal.SIGINT, 130), (signal.SIGTERM, 0)):
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "raycolab", "join"],
            env={**os.environ, "RAYCOLAB_JOIN_ADDRESS": address.text},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline().startswith("connecting to unix://")
        process.send_signal(ends)
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (code, "")


def test_a_verb_says_what_comes_of_it(run: Run, finished: None) -> None:
    """On stderr, by the sweep's name; here the one that needs no head."""
    ended = run("delete", "sample")
    assert (ended.code, ended.out, ended.err) == (0, "", "The sweep 'sample' and its trials are deleted.\n")
    assert run("results", "sample").code == 2


def test_a_piped_table_was_broken_in_the_middle_of_words(capsys: pytest.CaptureFixture[str]) -> None:
    """However wide, a row is a line where no terminal shows it."""
    names = [f"a-very-long-name-of-a-model-{number}" for number in range(12)]
    show(text_table(names, [names]), "a sentence " * 40)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:2]] == [names, names]
    assert len(lines) == 3
