"""What the command line refuses before it reaches anything: exit code, sentence, and an untouched disk.

No head runs in these tests: exit code 2 shows that what was typed is judged before one is looked for. Every form of a
sentence is tested where it is made; here are the ways by which a command comes to it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.raycolab.command_line import SWEEP, Run
from tunnel.address import JoinAddress

ADDRESS = JoinAddress("ws://127.0.0.1:1", bytes(32), bytes(range(32))).text
SUBMIT = ("submit", "sweep.yaml")
JOIN = ("join", ADDRESS)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            SWEEP.replace("datasets:", "datsets:"),
            "sweep.yaml line 5: unknown key 'datsets' (did you mean 'datasets'?); allowed are name, main, files, "
            "method, models, parameters, datasets, run_cap, jobs_per_pair, metric, mode, seed, timeout_s, resources, "
            "points_to_evaluate, early_terminate, max_failures, max_concurrent_trials, time_budget_s, notes, tags, "
            "reseed\n",
        ),
        (
            SWEEP.replace("{x:", "{y:"),
            "compute of MAIN.ipynb has no parameter 'y' that the space of model 'svc' gives; rename it in the "
            "sweep or add it to compute.\n"
            "compute of MAIN.ipynb needs 'x', which the space of model 'svc' does not give; add it to the sweep or "
            "give it a default in compute.\n",
        ),
    ],
)
def test_a_broken_sweep_file(run: Run, here: Path, text: str, sentence: str) -> None:
    """The line where there is one, all that is wrong, and the cure."""
    (here / "sweep.yaml").write_text(text)
    ended = run(*SUBMIT)
    assert (ended.code, ended.out, ended.err) == (2, "", sentence)
    assert not (here / "data").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((*SUBMIT, "--set", "nonsense"), "--set nonsense: write key=value, with dots for nested keys, as in metric."),
        ((*SUBMIT, "--set", "jobs_per_pair=1e999"), "--set jobs_per_pair=1e999: jobs_per_pair: a whole number is"),
        ((*SUBMIT, "--set", "jobs_per_pair=" + "9" * 30), "is a whole number from 1 to 1,000,000, not 999,999,"),
        ((*SUBMIT, "--set", "models.svc.x={min: .nan, max: 1}"), "uniform(nan, 1.0) needs its low bound below"),
        ((*SUBMIT, "--set", "main=NONE.ipynb"), "NONE.ipynb defines no `compute`: add a cell with `def compute("),
        ((*SUBMIT, "--output", "out.txt"), "--output out.txt: give a file that ends in .csv, .parquet or .json."),
        ((*SUBMIT, "--output", "none/out.csv"), "--output none/out.csv: there is no folder none; make it, or name"),
        (("submit", "none.yaml"), "there is no sweep file none.yaml; check the path"),
        (("submit", "\udcff.yaml"), r"The sweep file '\udcff.yaml' is not text in UTF-8: give another path."),
        (("join", ADDRESS[:-5]), "This join address is cut short: 86 of the 91 characters after its # are there. "),
        (("join",), "The join address is empty. Paste the line that the head prints; it starts with tunnel+."),
        (("join", "@none"), "The join address file none cannot be read (No such file or directory): name the head's"),
        (("join", "@"), "@ stands before the name of a file with the join address: write @FILE."),
        (("join", "@."), "The join address file . cannot be read (Is a directory): name the head's own."),
        (("join", "@/dev/zero"), "The join address file /dev/zero cannot be read (File too large): name the head's"),
        (("join", "@binary"), "The join address file binary cannot be read (it is not text): name the head's own."),
        ((*JOIN, "--name", ""), "A node cannot be called '': give one printable line of at most 40 characters."),
        ((*JOIN, "--name", "a\nb"), r"A node cannot be called 'a\nb': give one printable line"),
        ((*JOIN, "--name", "x" * 41), "give one printable line of at most 40 characters."),
        ((*JOIN, "--resources", "disk"), "--resources disk: this is not JSON"),
        ((*JOIN, "--resources", "4"), "--resources 4: give names with their amounts, as '{\"disk\": 4}'."),
        ((*JOIN, "--resources", '{"CPU": 4}'), "resources has 'CPU', which is counted already: num_cpus and num_gpus"),
        ((*JOIN, "--labels", "zone=a b"), "labels has 'zone' with 'a b': both are words of at most 63 letters"),
        ((*JOIN, "--give-up", "nan"), "--give-up nan: give a number of seconds; inf is for ever."),
        ((*JOIN, "--num-cpus", "-1"), "Invalid value for '--num-cpus': -1 is not in the range 0<=x<=256."),
        (("head", "--join-address-file", "none/file"), "--join-address-file none/file: there is no folder none; make"),
        (("head", "--listen", "127.0.0.1"), "--listen 127.0.0.1: write it as HOST:PORT, as in 127.0.0.1:8765"),
        (("head", "--listen", "0.0.0.0:0"), "--listen 0.0.0.0:0 listens at every address of this machine, which"),
        (("head", "--url", "ws://a b"), "--url ws://a b: give the address joiners dial as ws://HOST:PORT or"),
        (("head", "--provider", "ngrok"), "ngrok needs your authtoken: copy it from https://dashboard.ngrok.com/"),
        (("head", "--provider", "pigeon"), "'pigeon' is not one of 'auto', 'ngrok', 'direct', 'unix'."),
        (("status", "--data-dir", "MAIN.ipynb"), "MAIN.ipynb cannot be the data directory (it is a file): give"),
        (("down", "--data-dir", "~nobody-is-called-so"), "there is no such user on this machine."),
    ],
    ids=lambda value: " ".join(value).replace(ADDRESS, "ADDRESS")[:40] if isinstance(value, tuple) else "",
)
def test_what_is_typed_wrong(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], sentence: str
) -> None:
    """Named as it was typed, without a secret; nothing on stdout, and nothing is made."""
    monkeypatch.delenv("NGROK_AUTHTOKEN", raising=False)
    (here / "binary").write_bytes(b"\xff\xfe")
    ended = run(*words)
    assert (ended.code, ended.out) == (2, "")
    assert sentence in ended.err
    assert ADDRESS[-20:-5] not in ended.err
    assert not (here / "data").exists()


class TestNoHead:
    """What needs a running head says that there is none."""

    @pytest.mark.parametrize("command", [("status",), ("status", "--json"), ("env",), ("down",), SUBMIT])
    def test_exit_code_3(self, run: Run, here: Path, command: tuple[str, ...]) -> None:
        """And what to do; no sweep is written, so that the file may be changed and submitted again."""
        ended = run(*command)
        assert (ended.code, ended.out) == (3, "")
        assert ended.err == (
            f"No head is running with the data directory {here / 'data'}: start one with `raycolab head` or "
            "raycolab.start_head(), or give the --data-dir of the one that runs.\n"
        )
        assert not (here / "data").exists(), "a submit without a head left an empty database"

    @pytest.mark.parametrize("verb", ["pause", "resume", "stop", "cancel", "retry"])
    def test_the_name_is_looked_up_first(self, run: Run, finished: None, verb: str) -> None:
        """An unknown sweep is 2 whether or not a head runs."""
        assert run(verb, "sample").code == 3
        ended = run(verb, "sampel")
        assert ended.code == 2
        assert "no sweep named 'sampel' is in" in ended.err

    def test_a_head_that_died_is_none(self, run: Run, here: Path) -> None:
        """Its record names a socket that nobody answers."""
        (here / "data").mkdir()
        record = {"pid": 1, "control": str(here / "control"), "started_at": 0.0, "store": "sqlite:///x"}
        (here / "data" / "head.json").write_text(json.dumps(record))
        assert run("status").code == 3
