"""The ngrok authtoken and trials' secrets: where they are looked for, and the sentence of each failure."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from raycolab.colab import alone_text, credentials, take_secrets
from raycolab.errors import UsageError
from tests.raycolab.colab.vm import ColabVm

TOKEN = "NGROK_AUTHTOKEN"
PROMPT = b"ngrok authtoken (from https://dashboard.ngrok.com/get-started/your-authtoken; nothing is shown):"


def refuse(prompt: str) -> NoReturn:
    """Nobody may be asked."""
    pytest.fail("asked")


def test_the_environment_goes_before_colabs_secrets(colab_vm: ColabVm) -> None:
    """What was set by hand in the notebook is what is meant; blanks around it are no part of it."""
    colab_vm.kernel()
    colab_vm.secret(TOKEN, "theirs")
    assert credentials("auto", [], os.environ | {TOKEN: " mine\n"}, refuse) == {TOKEN: "mine"}


@pytest.mark.parametrize("provider", ["auto", "ngrok"])
def test_colabs_secrets_have_the_token(colab_vm: ColabVm, provider: str) -> None:
    """Without one in the environment the notebook's secrets are asked, nobody else."""
    colab_vm.kernel()
    colab_vm.secret(TOKEN, "2aToken ")
    assert credentials(provider, [], os.environ, refuse) == {TOKEN: "2aToken"}


@pytest.mark.parametrize("provider", ["direct", "unix"])
def test_other_providers_need_no_token(colab_vm: ColabVm, provider: str) -> None:
    """And nothing is asked for one."""
    colab_vm.kernel()
    colab_vm.secret(TOKEN, "2aToken", access=False)
    assert credentials(provider, [], os.environ, refuse) == {}


def test_auto_without_a_token_asks_nobody_and_says_what_that_means_on_colab(colab_vm: ColabVm) -> None:
    """Run all must not wait for an answer: the tab works alone, and the text says what would change that."""
    colab_vm.kernel()
    colab_vm.page()
    taken = credentials("auto", [], os.environ, refuse)
    assert taken == {}
    text = alone_text("auto", os.environ, taken)
    assert "no other tab can join" in text
    assert "click the key on the left" in text
    assert alone_text("auto", os.environ, {TOKEN: "t"}) == alone_text("direct", os.environ, {}) == ""


def test_auto_without_a_token_is_nothing_to_speak_of_elsewhere() -> None:
    """On a plain machine `direct` is as good."""
    assert alone_text("auto", {}, {}) == ""


def test_ngrok_without_a_token_asks_the_person(colab_vm: ColabVm) -> None:
    """In a notebook, without showing what is typed; the prompt says where tokens are."""
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return " 2aTyped\n"

    colab_vm.kernel()
    colab_vm.page()
    assert credentials("ngrok", [], os.environ, answer) == {TOKEN: "2aTyped"}
    assert "https://dashboard.ngrok.com/get-started/your-authtoken" in asked[0]


def test_a_program_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal or a notebook nobody can answer."""
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert credentials("ngrok", [], {}, refuse) == {}


@pytest.mark.parametrize("failure", [NotImplementedError, EOFError, KeyboardInterrupt])
def test_a_page_that_cannot_ask_is_no_token(colab_vm: ColabVm, failure: type[BaseException]) -> None:
    """A notebook run by a program (nbclient), a closed terminal, a person who stops."""

    def answer(prompt: str) -> str:
        raise failure

    colab_vm.kernel()
    colab_vm.page()
    assert credentials("ngrok", [], os.environ, answer) == {}


Break = Callable[[ColabVm], None]


@pytest.mark.parametrize(
    ("breaking", "part"),
    [
        (lambda vm: vm.secret(TOKEN, "t", access=False), "switch on Notebook access beside NGROK_AUTHTOKEN"),
        (lambda vm: None, "keep its page open and run this cell again"),
        (lambda vm: vm.page(error="lost"), "reload the page and run this cell again"),
    ],
    ids=["no access", "no answer", "an error"],
)
def test_what_colab_does_not_give_out_has_a_sentence_with_the_cure(
    colab_vm: ColabVm, breaking: Break, part: str
) -> None:
    """A token that is there and cannot be had is not taken for none."""
    colab_vm.kernel()
    breaking(colab_vm)
    with pytest.raises(UsageError, match=part):
        credentials("auto", [], os.environ, refuse)


def test_secrets_come_from_the_environment_and_from_colab(colab_vm: ColabVm) -> None:
    """Each by its name, whole."""
    colab_vm.kernel()
    colab_vm.secret("HF_TOKEN", " hf ")
    taken = take_secrets(["HF_TOKEN", "WANDB_API_KEY"], os.environ | {"WANDB_API_KEY": "w"})
    assert taken == {"HF_TOKEN": " hf ", "WANDB_API_KEY": "w"}


def test_a_secret_that_is_nowhere_on_colab_says_where_to_put_it(colab_vm: ColabVm) -> None:
    """Colab's panel, by what a person sees of it."""
    colab_vm.kernel()
    colab_vm.page()
    with pytest.raises(UsageError, match=r"nor in Colab's secrets: click the key .* add HF_TOKEN and switch on"):
        take_secrets(["HF_TOKEN"], os.environ)


def test_a_command_on_colab_cannot_ask_the_page(colab_vm: ColabVm) -> None:
    """`!raycolab ...` is no kernel: its cure is the environment."""
    colab_vm.secret("HF_TOKEN", "hf")
    with pytest.raises(UsageError, match=r"set it \(os\.environ\['HF_TOKEN'\]"):
        take_secrets(["HF_TOKEN"], os.environ)


def test_a_secret_that_is_nowhere_elsewhere_says_how_to_set_it() -> None:
    """Without Colab there is one place."""
    with pytest.raises(UsageError, match="'HF_TOKEN' is not in this process's environment: set it"):
        take_secrets(["HF_TOKEN"], {})


@pytest.mark.parametrize("name", ["", "a b", "a=b", "1a", "é", 7])
def test_what_no_variable_can_be_called_is_refused(name: str) -> None:
    """Trials get secrets as environment variables."""
    with pytest.raises(UsageError, match="cannot be the name of a secret"):
        take_secrets([name], {"a b": "x", "": "y"})


def test_one_name_in_place_of_a_list_is_refused() -> None:
    """Its letters are no secrets."""
    with pytest.raises(UsageError, match=r"write secrets=\['HF_TOKEN'\]"):
        take_secrets("HF_TOKEN", {"HF_TOKEN": "hf"})


def read_until(terminal: int, part: bytes = b"") -> bytes:
    """What a program writes to its terminal, up to this or to its end."""
    said = b""
    while not part or part not in said:
        try:
            said += os.read(terminal, 4096)
        except OSError:  # Linux's end of a terminal whose last program has ended
            break
    return said


def test_raycolab_head_asks_for_the_token_on_a_terminal(tmp_path: Path) -> None:
    """Only where ngrok was asked for by name; no answer is told what is missing, exit code 2."""
    terminal, end = os.openpty()
    head = subprocess.Popen(
        [sys.executable, "-m", "raycolab", "head", "--provider", "ngrok", "--data-dir", str(tmp_path / "data")],
        env={name: value for name, value in os.environ.items() if name != "NGROK_AUTHTOKEN"},
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(end)
    try:
        assert PROMPT in read_until(terminal, PROMPT)
        os.write(terminal, b"\n")
        assert b"ngrok needs your authtoken" in read_until(terminal)
        assert head.wait(30) == 2
        assert not (tmp_path / "data").exists()
    finally:
        head.kill()
        head.wait()
        os.close(terminal)
