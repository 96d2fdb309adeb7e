"""The sentence for each situation of a Colab tab, by the cell that was run, with the stand-in google.colab."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.raycolab.cell import Cell
from tests.raycolab.colab.vm import ColabVm
from tests.raycolab.situations import Row, fits
from tunnel.address import JoinAddress

ADDRESS = JoinAddress("wss://abc.ngrok-free.dev", bytes(32), bytes(range(32))).text
KEY = "click the key on the left of the notebook (Secrets)"
TOKEN = "NGROK_AUTHTOKEN"

ROWS: list[tuple[Row, Callable[[ColabVm], None]]] = [
    (
        Row(
            "a token this notebook may not read",
            "raycolab.start_head()",
            "UsageError",
            f"Colab has a secret {TOKEN} and this notebook may not read it: {KEY}, switch on Notebook access beside"
            f" {TOKEN}, and run this cell again.",
        ),
        lambda vm: vm.secret(TOKEN, "2aToken", access=False),
    ),
    (
        Row(
            "a head started while nobody has the page open",
            "raycolab.start_head()",
            "UsageError",
            f"Colab did not answer within 10 s when asked for the secret {TOKEN}, as it does where nobody has the"
            f" notebook open: keep its page open and run this cell again, or set os.environ['{TOKEN}'] = \"...\" before"
            " it.",
        ),
        lambda vm: None,
    ),
    (
        Row(
            "a page that lost its session",
            "raycolab.start_head('ngrok')",
            "UsageError",
            f"Colab's page could not give the secret {TOKEN} (…): reload the page and run this cell again, or set"
            f" os.environ['{TOKEN}'] = \"...\" before it.",
        ),
        lambda vm: vm.page(error="lost"),
    ),
    (
        Row(
            "a head whose trials need a secret that is nowhere",
            "raycolab.start_head('direct', secrets=['HF_TOKEN'])",
            "UsageError",
            f"The secret 'HF_TOKEN' is not in this process's environment nor in Colab's secrets: {KEY}, add HF_TOKEN"
            " and switch on its Notebook access, then run this again.",
        ),
        lambda vm: vm.page(),
    ),
    (
        Row(
            "a joiner whose trials need one",
            f"raycolab.join({ADDRESS!r}, secrets=['HF_TOKEN'])",
            "UsageError",
            f"The secret 'HF_TOKEN' is not in this process's environment nor in Colab's secrets: {KEY}, add HF_TOKEN"
            " and switch on its Notebook access, then run this again.",
        ),
        lambda vm: vm.page(),
    ),
    (
        Row(
            "a joiner.ipynb whose address field was left empty",
            "raycolab.join('')",
            "UsageError",
            "The join address is empty. Paste the line that the head prints; it starts with tunnel+.",
        ),
        lambda vm: vm.page(),
    ),
]


@pytest.mark.parametrize(("row", "made"), ROWS, ids=lambda value: str(value) if isinstance(value, Row) else "")
def test_a_cell_on_colab_ends_with_its_sentence(
    row: Row, made: Callable[[ColabVm], None], colab_vm: ColabVm, cell: Cell, here: Path
) -> None:
    """Before anything is started; the sentence names the click that mends it."""
    colab_vm.kernel()
    made(colab_vm)
    shown = cell(row.done)
    assert type(shown.error).__name__ == row.ends
    assert fits(row, shown.text.removeprefix(f"{row.ends}: "), here)
    assert not (here / "data" / "head.log").exists()
