"""What the command line refuses before it reaches anything: exit code, sentence, and an untouched disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.raycolab.command_line import SWEEP, Run
from tests.raycolab.scripted_head import scripted_head
from tunnel.address import JoinAddress

ADDRESS = JoinAddress("ws://127.0.0.1:1", bytes(32), bytes(range(32))).text


class TestBeforeAnythingIsReached:
    """No head runs in these tests: exit code 2 shows that what was typed is judged before one is looked for."""

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (
                SWEEP.replace("datasets:", "datsets:"),
                "sweep.yaml line 5: unknown key 'datsets' (did you mean 'datasets'?); allowed are name, main, method, "
                "models, parameters, datasets, run_cap, jobs_per_pair, metric, mode, seed, timeout_s, resources, "
                "points_to_evaluate, early_terminate, max_failures, max_concurrent_trials, time_budget_s\n",
            ),
            (
                SWEEP.replace("MAIN.ipynb", "MINE.ipynb"),
                "There is no notebook 'MINE.ipynb'; nearby: MAIN.ipynb, NONE.ipynb. Give the path of an .ipynb file "
                "that defines `compute`.\n",
            ),
            (
                SWEEP.replace("MAIN.ipynb", "NONE.ipynb"),
                "NONE.ipynb defines no `compute`: add a cell with `def compute(model, dataset, ...):` that returns the "
                "number to optimise.\n",
            ),
            (
                SWEEP.replace("{x:", "{y:"),
                "compute of MAIN.ipynb has no parameter 'y' that the space of model 'svc' gives; rename it in the "
                "sweep or add it to compute.\n"
                "compute of MAIN.ipynb needs 'x', which the space of model 'svc' does not give; add it to the sweep or "
                "give it a default in compute.\n",
            ),
            ("models: [1, 2", "sweep.yaml line 1: this is not YAML (expected ',' or ']', but got '<stream end>')\n"),
            (SWEEP.replace("main: MAIN.ipynb", ""), "sweep.yaml: it names no notebook; add main: MAIN.ipynb"),
            (
                SWEEP + "method: custom\n",
                "sweep.yaml line 8: unknown method 'custom'; methods are grid, random, bayes",
            ),
        ],
    )
    def test_a_broken_sweep_file(self, run: Run, here: Path, change: str, sentence: str) -> None:
        """The line where there is one, and the cure."""
        (here / "sweep.yaml").write_text(change)
        ended = run("submit", "sweep.yaml")
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith(sentence)
        assert not (here / "data").exists()

    @pytest.mark.parametrize(
        ("override", "sentence"),
        [
            ("nonsense", "--set nonsense: write key=value, with dots for nested keys, as in metric.name=f1"),
            ("=1", "--set =1: write key=value"),
            ("jobs_per_pair=0", "--set jobs_per_pair=0: jobs_per_pair is a whole number from 1 to 1,000,000, not 0"),
            ("jobs_per_pair=1e999", "--set jobs_per_pair=1e999: jobs_per_pair: a whole number is needed, not inf"),
            ("jobs_per_pair=" + "9" * 30, "jobs_per_pair is a whole number from 1 to 1,000,000, not 999,999,"),
            ("seed=[1", "--set seed=[1: this is not YAML"),
            ("models.svc.x={min: .nan, max: 1}", "uniform(nan, 1.0) needs its low bound below its high one"),
            ("models.svc.x=!!python/name:os.system", "is not a value that can be used here; put it in quotes"),
            ("datasets.first=iris", "--set datasets.first=iris: datasets is ['iris'] in sweep.yaml, not a mapping"),
            ("main=train.py", "--set main=train.py: main 'train.py' is not a notebook"),
        ],
    )
    def test_a_value_that_cannot_be(self, run: Run, override: str, sentence: str) -> None:
        """Named as it was typed."""
        ended = run("submit", "sweep.yaml", "--set", override)
        assert (ended.code, ended.out) == (2, "")
        assert sentence in ended.err
        assert ended.err.startswith("--set ")

    @pytest.mark.parametrize(
        ("output", "sentence"),
        [
            ("out.txt", "--output out.txt: give a file that ends in .csv, .parquet or .json."),
            ("", "--output : give a file that ends in .csv, .parquet or .json."),
            ("none/out.csv", "--output none/out.csv: there is no folder none; make it, or name another file."),
            ("/proc/out.csv", "--output /proc/out.csv cannot be written (No such file or directory): name a file"),
            ("~nobody-is-called-so/out.json", "there is no such user on this machine."),
        ],
    )
    def test_an_output_that_cannot_be_written(self, run: Run, output: str, sentence: str) -> None:
        """Not when the sweep is done: now."""
        ended = run("submit", "sweep.yaml", "--output", output)
        assert ended.code == 2
        assert sentence in ended.err

    @pytest.mark.parametrize(
        ("file", "sentence"),
        [
            ("none.yaml", "there is no sweep file none.yaml; check the path"),
            (".", "the sweep file . cannot be read: Is a directory"),
            ("/dev/zero", "/dev/zero is larger than 1,000,000 bytes; is it a sweep file?"),
            ("\udcff.yaml", r"The sweep file '\udcff.yaml' is not text in UTF-8: give another path."),
        ],
    )
    def test_a_sweep_file_that_is_none(self, run: Run, file: str, sentence: str) -> None:
        """Whatever was typed."""
        ended = run("submit", file)
        assert (ended.code, ended.err.strip()) == (2, sentence)

    @pytest.mark.parametrize(
        ("address", "sentence"),
        [
            (ADDRESS[:-5], "This join address is cut short: 86 of the 91 characters after its # are there. "),
            (ADDRESS[:-1] + "x", "This join address was altered on its way: a character in it is wrong or missing. "),
            ("hello", "There is no join address in this text: it would start with tunnel+. Copy the whole line"),
            ("", "The join address is empty. Paste the line that the head prints; it starts with tunnel+."),
            ("@none", "The join address file none cannot be read (No such file or directory): name the head's own."),
            ("@", "@ stands before the name of a file with the join address: write @FILE."),
            ("@.", "The join address file . cannot be read (Is a directory): name the head's own."),
            ("@/dev/zero", "The join address file /dev/zero cannot be read (File too large): name the head's own."),
            ("@binary", "The join address file binary cannot be read (it is not text): name the head's own."),
        ],
    )
    def test_an_address_that_is_none(self, run: Run, here: Path, address: str, sentence: str) -> None:
        """How it is damaged, and nothing of its secret."""
        (here / "binary").write_bytes(b"\xff\xfe")
        ended = run("join", address)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith(sentence)
        assert ADDRESS[-20:-5] not in ended.err

    def test_no_address_at_all(self, run: Run) -> None:
        """Neither typed nor in the environment."""
        assert run("join").err.startswith("The join address is empty.")

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (("--name", ""), "A node cannot be called '': give one printable line of at most 40 characters."),
            (("--name", "a\nb"), r"A node cannot be called 'a\nb': give one printable line"),
            (("--name", "x" * 41), "give one printable line of at most 40 characters."),
            (("--give-up", "nan"), "--give-up nan: give a number of seconds; inf is for ever."),
            (("--give-up", "-1"), "Invalid value for '--give-up': -1.0 is not in the range x>=0."),
            (("--num-cpus", "-1"), "Invalid value for '--num-cpus': -1 is not in the range 0<=x<=256."),
            (("--num-cpus", "9" * 30), "is not in the range 0<=x<=256."),
            (("--num-gpus", "one"), "Invalid value for '--num-gpus': 'one' is not a valid integer range."),
        ],
    )
    def test_a_joiner_that_cannot_be(
        self, run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str
    ) -> None:
        """Names and numbers."""
        monkeypatch.setenv("RAYCOLAB_JOIN_ADDRESS", ADDRESS)
        ended = run("join", *arguments)
        assert ended.code == 2
        assert sentence in ended.err

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (("--join-address-file", "none/file"), "--join-address-file none/file: there is no folder none; make it"),
            (("--join-address-file", "."), "--join-address-file . is a folder: name a file."),
            (("--listen", "127.0.0.1"), "--listen 127.0.0.1: write it as HOST:PORT, as in 127.0.0.1:8765"),
            (("--listen", "0.0.0.0:0"), "--listen 0.0.0.0:0 listens at every address of this machine, which nobody"),
            (("--url", "ws://a b"), "--url ws://a b: give the address joiners dial as ws://HOST:PORT or wss://HOST"),
            (("--provider", "unix", "--url", "ws://h"), "--url does not go with --provider unix: joiners dial the"),
            (("--provider", "unix", "--listen", "x" * 200), "Linux takes 107 at most: give --listen a shorter one"),
            (("--provider", "ngrok"), "ngrok needs your authtoken: copy it from https://dashboard.ngrok.com/"),
            (("--provider", "carrier-pigeon"), "'carrier-pigeon' is not one of 'auto', 'ngrok', 'direct', 'unix'."),
        ],
    )
    def test_a_head_that_cannot_be(
        self, run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str
    ) -> None:
        """What does not fit together; what the machine refuses is in the integration tests."""
        monkeypatch.delenv("NGROK_AUTHTOKEN", raising=False)
        ended = run("head", *arguments)
        assert ended.code == 2
        assert sentence in ended.err

    @pytest.mark.parametrize("command", ["status", "down"])
    @pytest.mark.parametrize(
        ("folder", "sentence"),
        [
            ("MAIN.ipynb", "MAIN.ipynb cannot be the data directory (it is a file): give --data-dir, or"),
            ("MAIN.ipynb/data", "MAIN.ipynb/data cannot be the data directory (Not a directory): give --data-dir, or"),
            ("\udcff", r"The data directory '\udcff' is not text in UTF-8: give another path."),
            ("~nobody-is-called-so", "The data directory ~nobody-is-called-so: there is no such user on this machine."),
        ],
    )
    def test_a_data_directory_that_cannot_be(self, run: Run, command: str, folder: str, sentence: str) -> None:
        """The same for every command."""
        ended = run(command, "--data-dir", folder)
        assert ended.code == 2
        assert sentence in ended.err

    def test_a_contradiction_with_the_stored_sweep(self, run: Run, here: Path, finished: None) -> None:
        """Each difference on a line, and the ways out."""
        with scripted_head(here / "data"):
            ended = run("submit", "sweep.yaml", "--set", "jobs_per_pair=2", "--set", "seed=7")
        assert (ended.code, ended.err.splitlines()) == (
            2,
            [
                "the sweep 'sample' exists and this declaration contradicts it:",
                "  jobs_per_pair was 3 and is now 2",
                "  seed was 0 and is now 7",
                "Undo the change, declare it under another name, or run `raycolab delete sample` first.",
            ],
        )


class TestNoHead:
    """What needs a running head says that there is none."""

    @pytest.mark.parametrize("command", [("status",), ("status", "--json"), ("down",), ("submit", "sweep.yaml")])
    def test_exit_code_3(self, run: Run, here: Path, command: tuple[str, ...]) -> None:
        """And what to do."""
        ended = run(*command)
        assert (ended.code, ended.out) == (3, "")
        assert ended.err == (
            f"No head is running with the data directory {here / 'data'}: start one with `raycolab head` or "
            "raycolab.start_head(), or give the --data-dir of the one that runs.\n"
        )

    @pytest.mark.parametrize("verb", ["pause", "resume", "stop", "cancel", "retry"])
    def test_the_name_is_looked_up_first(self, run: Run, finished: None, verb: str) -> None:
        """An unknown sweep is 2 whether or not a head runs."""
        assert run(verb, "sample").code == 3
        ended = run(verb, "sampel")
        assert ended.code == 2
        assert "no sweep named 'sampel' is in" in ended.err

    def test_a_sweep_is_not_written_then(self, run: Run, here: Path) -> None:
        """The file may be changed and submitted again; no database is left behind."""
        assert run("submit", "sweep.yaml").code == 3
        assert not (here / "data").exists()

    def test_a_head_that_died_is_none(self, run: Run, here: Path) -> None:
        """Its record names a socket that nobody answers."""
        (here / "data").mkdir()
        record = {"pid": 1, "control": str(here / "control"), "started_at": 0.0, "store": "sqlite:///x"}
        (here / "data" / "head.json").write_text(json.dumps(record))
        assert run("status").code == 3

    def test_a_record_that_is_damaged_says_so(self, run: Run, here: Path) -> None:
        """Rather than guess."""
        (here / "data").mkdir()
        (here / "data" / "head.json").write_text("{")
        ended = run("status")
        assert (ended.code, "head.json is damaged: delete it and start the head again." in ended.err) == (3, True)
