"""Which checks a doctor makes, where, and what `raycolab doctor` prints and ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import raycolab
from raycolab.diagnostics import Diagnosis, doctor
from raycolab.diagnostics.doctor import prepare
from raycolab.errors import UsageError
from tests.raycolab.colab.vm import ColabVm, colab_vm
from tests.raycolab.command_line import Run, here, run
from tunnel.address import JoinAddress, unix_url

__all__ = ["colab_vm", "here", "run"]

EVERYWHERE = ["packages", "ports", "memory", "open files", "temporary folder", "data directory"]


def address(folder: Path) -> str:
    """A join address that leads nowhere."""
    return JoinAddress(unix_url(str(folder / "hub.sock")), bytes(32), bytes(range(32))).text


class TestWhatIsLookedAt:
    """`prepare` looks at nothing yet."""

    def test_a_head_needs_ngrok_a_joiner_its_head_and_a_colab_tab_drive(
        self, tmp_path: Path, colab_vm: ColabVm
    ) -> None:
        """Beside what every machine needs; results end with a Colab tab that has no Drive."""
        assert list(prepare(None, tmp_path, {})) == [*EVERYWHERE, "ngrok"]
        assert list(prepare(address(tmp_path), tmp_path, {})) == [*EVERYWHERE, "join address"]
        assert list(prepare(None, tmp_path, colab_vm.environ)) == [*EVERYWHERE, "ngrok", "drive"]

    @pytest.mark.parametrize("text", ["", "hello", "tunnel+ws://127.0.0.1:1#abc", "@none"])
    def test_a_damaged_address_is_a_usage_error(self, tmp_path: Path, text: str) -> None:
        """Before anything is looked at."""
        with pytest.raises(UsageError):
            prepare(text, tmp_path, {})


class TestHere:
    """On the machine of these tests, whatever it is."""

    @pytest.fixture(autouse=True)
    def no_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever runs these tests may have one."""
        monkeypatch.delenv("NGROK_AUTHTOKEN", raising=False)

    def test_the_function_and_the_command_say_the_same(self, run: Run, here: Path) -> None:
        """The function for a cell, which shows its answer; JSON alone on stdout, 1 where something will fail."""
        found = raycolab.doctor()
        assert isinstance(found, Diagnosis)
        assert [check.name for check in found.checks] == [*EVERYWHERE, "ngrok"]
        ended = run("doctor", "--json")
        said = json.loads(ended.out)
        assert set(said) == {"ok", "checks"}
        assert all(set(check) == {"name", "ok", "message"} and check["message"] for check in said["checks"])
        assert [check["name"] for check in said["checks"]] == [check.name for check in found.checks]
        assert ended.code == (0 if said["ok"] else 1)
        assert ended.err == ""

    def test_what_will_fail_is_1_and_named(self, run: Run, here: Path) -> None:
        """A line for each check when piped, and no traceback."""
        (here / "data").mkdir()
        (here / "data" / "identity.json").write_text("{")
        ended = run("doctor", address(here))
        assert ended.code == 1
        (damaged,) = (line for line in ended.out.splitlines() if line.startswith("✗ data directory"))
        assert "identity.json is damaged" in damaged
        (nobody,) = (line for line in ended.out.splitlines() if line.startswith("✗ join address"))
        assert "cannot be reached" in nobody
        summary = ended.out.splitlines()[-1]
        assert "these will fail: " in summary
        assert "data directory" in summary

    def test_a_damaged_address_is_2(self, run: Run, here: Path) -> None:
        """As it is for `join`, and nothing is printed on stdout."""
        ended = run("doctor", "hello", "--json")
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith("There is no join address in this text")

    def test_it_makes_no_data_directory(self, here: Path) -> None:
        """Looking leaves nothing."""
        doctor()
        assert not (here / "data").exists()
