"""Which cells of MAIN run on workers, and how: the roles of code cells, read from their text alone.

A cell is skipped when one of its tags or a mark among its leading comments and magics says so, or when it belongs to
the side that submits: it starts, joins, attaches or declares through raycolab, or uses what such a cell made
(`results = sweep.run()`, `results.dataframe`). All others run, in their order.
"""

from __future__ import annotations

import ast
import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from raycolab.main.source import (
    FILE_MAGICS,
    Magic,
    bound_names,
    executed,
    holds_only_commands,
    is_command,
    magics,
    syntax_tree,
)
from raycolab.text import duration_text

__all__ = ["Cell", "CellRole", "asked_to_skip", "cell_label", "slow_cell_hint", "with_roles"]

# A cell that takes longer is pointed out; also a shorter one that takes longer than trials do, but not for less than a
# few seconds.
SLOW_CELL_S = 20.0
NOTABLE_CELL_S = 5.0
_LONGEST_LABEL = 60  # characters of a cell's first line
_SKIP_TAGS = ("skip-execution", "head-only")
_SUBMITTING = frozenset({"start_head", "join", "leave", "attach", "declare"})
_HEAD_ONLY = re.compile(r"#\s*raycolab\s*:\s*head-only\b", re.IGNORECASE)
_COMMAND = re.compile(
    r"(?:^|[;&|(]|\s-m\s|\b(?:exec|nohup|sudo|time)\s)\s*(?:\S*/)?raycolab\s+(?:demo|head|join|submit|resume|retry|down)\b",
    re.MULTILINE,
)


class CellRole(enum.StrEnum):
    """What a worker does with a code cell."""

    RUN = "run"
    SKIP = "skip"
    PARAMETERS = "parameters"  # runs: its values are the defaults


@dataclass(frozen=True, slots=True)
class Cell:
    """A code cell and its role; `why_skipped` completes the sentence "skipped, because ..."."""

    index: int  # among the code cells, from 1
    source: str
    tags: tuple[str, ...] = ()
    role: CellRole = CellRole.RUN
    why_skipped: str | None = None


def with_roles(code_cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """All code cells of a notebook, in order, each with its role; one that is not Python fails where it is run."""
    trees = [_tree_or_none(cell.source) for cell in code_cells]
    known = [tree for tree in trees if tree is not None]
    side = _SubmittingSide.of(known)
    cells: list[Cell] = []
    for cell, tree in zip(code_cells, trees, strict=True):
        why = "it is empty" if not cell.source.strip() else asked_to_skip(cell.source, cell.tags)
        if tree is not None:
            reason = side.reason(tree)  # also for cells skipped by tag: what they make is the submitter's too
            why = why or reason
        role = CellRole.RUN
        if why is not None:
            role = CellRole.SKIP
        elif "parameters" in cell.tags:
            role = CellRole.PARAMETERS
        cells.append(replace(cell, role=role, why_skipped=why))
    return tuple(cells)


def cell_label(cells: Sequence[Cell], index: int) -> tuple[int, str]:
    """How people find a cell: its number among the code cells, from 1, and its first line."""
    number, cell = next((number, cell) for number, cell in enumerate(cells, 1) if cell.index == index)
    line = next((line.strip() for line in cell.source.splitlines() if line.strip()), "")
    return number, line if len(line) <= _LONGEST_LABEL else f"{line[: _LONGEST_LABEL - 2]} …"


def slow_cell_hint(cells: Sequence[Cell], seconds: Mapping[int, float], trial_s: float | None) -> str | None:
    """What to do about the slowest cell of MAIN, where each slot spends long on it; None where none does.

    `seconds` are those of each cell, by its index, and `trial_s` those of a trial, where that is known. A cell of
    nothing but commands, which run once for each node, may take its time.
    """
    in_each_slot = {cell.index for cell in cells if not holds_only_commands(cell.source)}
    slowest = max((index for index in seconds if index in in_each_slot), key=seconds.__getitem__, default=None)
    if slowest is None:
        return None
    took_s = seconds[slowest]
    if took_s <= (SLOW_CELL_S if trial_s is None else min(max(trial_s, NOTABLE_CELL_S), SLOW_CELL_S)):
        return None
    number, line = cell_label(cells, slowest)
    return (
        f"cell {number} of MAIN ({line}) took {duration_text(took_s)}, in every slot: have it keep what it makes in a"
        " file, and make that only where it is not there yet; or start it with `# raycolab: head-only`, if workers do"
        " not need it"
    )


def _tree_or_none(source: str) -> ast.Module | None:
    try:
        return syntax_tree(source)
    except SyntaxError:
        return None


def asked_to_skip(source: str, tags: Iterable[str]) -> str | None:
    """How a cell's tags, or a mark among its leading comments and magics, ask to skip it; else None."""
    for tag in _SKIP_TAGS:
        if tag in tags:
            return f"it is tagged {tag}"
    for line in filter(None, map(str.strip, source.splitlines())):
        if _HEAD_ONLY.match(line):
            return "it says head-only at its top"
        if not line.startswith(("#", "%")):
            break
    return None


# --- the submitting side ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _SubmittingSide:
    """The names through which MAIN reaches raycolab's cluster, followed from cell to cell in order."""

    verbs: dict[str, str] = field(default_factory=dict)  # the submitting functions, as MAIN writes them: `rc.declare`
    handles: set[str] = field(default_factory=set)  # what they returned, and what came of that

    @classmethod
    def of(cls, trees: Iterable[ast.Module]) -> _SubmittingSide:
        """What the imports of all cells name; the handles come with `reason`."""
        side = cls()
        for node in (node for tree in trees for node in ast.walk(tree)):
            match node:
                case ast.Import(names=names):
                    for module in (item.asname or item.name for item in names if item.name == "raycolab"):
                        side.verbs |= {f"{module}.{verb}": verb for verb in _SUBMITTING}
                case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] == "raycolab":
                    for item in names:
                        side.verbs |= {item.asname or verb: verb for verb in _SUBMITTING if item.name in (verb, "*")}
        return side

    def reason(self, tree: ast.Module) -> str | None:
        """Why this cell belongs to the submitting side, or None; learns and forgets handles, statement by statement."""
        verb = used = None
        for statement in tree.body:
            nodes = list(executed(statement))
            verb = verb or next(filter(None, map(self._verb, nodes)), None)
            used = used or next(filter(None, map(self._handle, nodes)), None)
            made = self._made_by(nodes)
            self.handles = (self.handles - bound_names(*ast.walk(statement))) | made
        if verb is not None or any(map(_runs_raycolab, magics(tree))):
            return f"it submits the sweep itself (raycolab {verb or 'on the command line'})"
        if used is not None:
            return f"it uses `{used}`, which only the notebook that submits the sweep has"
        return None

    def _verb(self, node: ast.AST) -> str | None:
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=verb)):
                return self.verbs.get(f"{module}.{verb}")
            case ast.Call(func=ast.Name(id=name)):
                return self.verbs.get(name)
        return None

    def _handle(self, node: ast.AST) -> str | None:
        match node:
            case ast.Name(id=name, ctx=ast.Load()) if name in self.handles:
                return name
        return None

    def _involved(self, nodes: Iterable[ast.AST]) -> bool:
        return any((self._verb(node) or self._handle(node)) is not None for node in nodes)

    def _made_by(self, nodes: Iterable[ast.AST]) -> set[str]:
        """The names a statement gives to handles, and those of functions that reach the cluster when called."""
        made: set[str] = set()
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inside = list(ast.walk(node))
                own = {item.arg for item in inside if isinstance(item, ast.arg)} | bound_names(*inside)
                free = (item for item in inside if not (isinstance(item, ast.Name) and item.id in own))
                if node.name != "compute" and self._involved(free):
                    made.add(node.name)
            elif (binding := _binding(node)) is not None:
                targets, value = binding
                if self._involved(executed(value)):
                    made |= {item.id for part in targets for item in ast.walk(part) if isinstance(item, ast.Name)}
        return made


def _binding(node: ast.AST) -> tuple[list[ast.expr], ast.expr] | None:
    """The targets and the value of an assignment, a loop or a `with`."""
    match node:
        case ast.Assign(targets=targets, value=value):
            return targets, value
        case (
            ast.AnnAssign(target=target, value=ast.expr() as value)
            | ast.NamedExpr(target=target, value=value)
            | ast.For(target=target, iter=value)
            | ast.withitem(context_expr=value, optional_vars=ast.expr() as target)
        ):
            return [target], value
    return None


def _runs_raycolab(magic: Magic) -> bool:
    return (
        is_command(magic)
        and magic.name not in FILE_MAGICS
        and _COMMAND.search(f"{magic.line}\n{magic.body}") is not None
    )
