"""Which cells workers run: tags, first lines, the submitting side, shell cells."""

from __future__ import annotations

import pytest

from raycolab.main.roles import Cell, CellRole, slow_cell_hint, with_roles


def roles(*sources: str) -> list[CellRole]:
    """The roles of untagged cells."""
    return [cell.role for cell in cells(*sources)]


def cells(*sources: str) -> tuple[Cell, ...]:
    """Untagged cells, read."""
    return with_roles([Cell(index, source) for index, source in enumerate(sources)])


def test_tags_decide() -> None:
    """`skip-execution` and `head-only` skip a cell and say so, `parameters` marks the defaults."""
    read = with_roles(
        [
            Cell(0, "x = 1", ("skip-execution",)),
            Cell(1, "x = 1", ("mine", "head-only")),
            Cell(2, "x = 1", ("parameters",)),
            Cell(3, "x = 1", ("mine",)),
        ]
    )
    assert [cell.role for cell in read] == [CellRole.SKIP, CellRole.SKIP, CellRole.PARAMETERS, CellRole.RUN]
    assert [cell.why_skipped for cell in read[:2]] == ["it is tagged skip-execution", "it is tagged head-only"]


@pytest.mark.parametrize("line", ["# raycolab: head-only", "#raycolab:head-only", "\n\n# RayColab: head-only, plots"])
def test_the_first_line_can_say_head_only(line: str) -> None:
    """Colab has no tags: a comment in the first line of the cell skips it."""
    assert roles(f"{line}\n1/0") == [CellRole.SKIP]


def test_head_only_further_down_is_a_comment() -> None:
    """Only the first line decides."""
    assert roles("x = 1\n# raycolab: head-only") == [CellRole.RUN]


@pytest.mark.parametrize(
    "source",
    [
        "import raycolab\nraycolab.declare('x')",
        "import raycolab as rc\nhead = rc.start_head()",
        "from raycolab import join\njoin('address')",
        "from raycolab import declare as d\nif True:\n    d('x').run()",
        "from raycolab import *\nattach()",
        "import raycolab\nwith raycolab.start_head() as head:\n    pass",
        "!raycolab submit sweep.yaml",
        "!nohup /opt/bin/raycolab head &",
        "%%bash\ncd x && python -m raycolab join @address",
    ],
)
def test_a_cell_that_submits_is_skipped(source: str) -> None:
    """Starting, joining, attaching and declaring, under any name or on the command line, skips the cell."""
    (cell,) = cells(source)
    assert cell.role is CellRole.SKIP
    assert cell.why_skipped is not None
    assert "submits the sweep itself" in cell.why_skipped


@pytest.mark.parametrize(
    "source",
    [
        "import raycolab",
        "import raycolab\nspace = {'C': raycolab.loguniform(1e-3, 1)}",
        "import raycolab\nraycolab.report(1, 0.5)",
        "declare = print\ndeclare('x')",
        "import other\nother.declare()",
        "def go():\n    import raycolab\n    raycolab.declare('x')",
        "sweep = object()\nsweep.run = print",
        "!pip install raycolab head",
    ],
)
def test_a_cell_that_only_uses_raycolab_runs(source: str) -> None:
    """Spaces, `report`, and functions that would submit when called are not a submission."""
    assert CellRole.SKIP not in roles(source)


def test_what_a_submission_made_is_followed_through_the_notebook() -> None:
    """`sweep.run()` and `results.dataframe` in cells of their own are skipped too, with the name in the reason."""
    read = cells(
        "import raycolab",
        "sweep = raycolab.declare('x')",
        "results = sweep.run()",
        "results.dataframe",
        "def show():\n    return sweep.pivot()",
        "show()",
        "def compute(model, sweep): return sweep",
        "results = []\nresults",
        "results.append(1)",
    )
    assert [cell.role is CellRole.SKIP for cell in read] == [
        False, True, True, True, False, True, False, False, False,
    ]  # fmt: skip
    assert read[3].why_skipped == "it uses `results`, which only the notebook that submits the sweep has"


def test_imports_beside_a_submission_stay_usable() -> None:
    """A name that a submitting cell merely imports is not a handle: cells that use it run."""
    assert roles("import raycolab\nimport math\nraycolab.declare('x')", "math.pi") == [CellRole.SKIP, CellRole.RUN]


def test_empty_cells_are_skipped_and_broken_ones_run() -> None:
    """A cell without code is nothing to run; one that is not Python has to fail where it runs."""
    assert roles("  \n", "x = = 1") == [CellRole.SKIP, CellRole.RUN]


@pytest.mark.parametrize(
    ("seconds", "trial_s", "pointed_out"),
    [
        ({0: 84.0, 1: 0.1}, 0.001, "cell 1 of MAIN (import torch) took 1 min 24 s, in every slot: "),
        ({0: 84.0, 1: 0.1}, 600.0, "cell 1 of MAIN (import torch) took 1 min 24 s, in every slot: "),
        ({0: 6.0, 1: 0.1}, 1.0, "cell 1 of MAIN (import torch) took 6.0 s, in every slot: "),
        ({0: 6.0, 1: 0.1}, 10.0, None),
        ({0: 6.0, 1: 0.1}, None, None),
        ({0: 2.0, 1: 84.0}, 0.001, None),
        ({}, 1.0, None),
    ],
)
def test_a_cell_that_each_slot_spends_long_on_is_pointed_out(
    seconds: dict[int, float], trial_s: float | None, pointed_out: str | None
) -> None:
    """Longer than 20 s, or than a trial; not one of commands, which run once for each node, and not for little."""
    hint = slow_cell_hint(with_roles([Cell(0, "import torch"), Cell(1, "!wget x")]), seconds, trial_s)
    assert (hint or "").startswith(pointed_out or "") is True
    assert (hint is None) is (pointed_out is None)


@pytest.mark.parametrize(
    "source",
    [
        '#@title Start the head { display-mode: "form" }\n# raycolab: head-only\n1/0',
        "%%bash\n# raycolab: head-only\nexit 1",
        "%%time\n#@title Run\n\n  # raycolab: head-only\n1/0",
        "%%capture out\n%matplotlib inline\n# raycolab: head-only\n1/0",
        "%%writefile a.py\n# raycolab: head-only\n",
        "%%script bash\n#!/bin/bash\n# raycolab: head-only",
    ],
)
def test_head_only_was_not_read_below_a_title_or_a_magic(source: str) -> None:
    """The mark counts among the leading comments and magics, which is where the errors say to put it."""
    (cell,) = with_roles([Cell(1, source)])
    assert (cell.role, cell.why_skipped) == (CellRole.SKIP, "it says head-only at its top")


@pytest.mark.parametrize(
    "source", ["x = 1\n# raycolab: head-only", "'# raycolab: head-only'", "print()\n%time x\n# raycolab: head-only"]
)
def test_head_only_below_code_is_a_comment(source: str) -> None:
    """What stands below a statement marks nothing."""
    (cell,) = with_roles([Cell(1, source)])
    assert cell.role is CellRole.RUN
