"""Models x datasets as a table with colours: the best of each pair, how far it is, what failed in it.

Pure: from numbers to markup. A cell's colour compares it with the other models on its dataset, for one dataset is
easier than another; the bar at its foot is what is done. Without its style it is still a table that can be read.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from raycolab.results.tally import PairTally
from raycolab.wording import number_text

__all__ = ["pairs_map"]

_PALEST, _DEEPEST = 0.07, 0.42  # how much colour the worst and the best of a dataset get
_DENSE = 9  # datasets, from which on a cell has its number alone


def pairs_map(
    models: Sequence[str], datasets: Sequence[str], cells: Mapping[tuple[str, str], PairTally], mode: str
) -> str:
    """The table; a pair that is not there stays empty. `mode` is the metric's, "max" or "min"."""
    dense = len(datasets) >= _DENSE
    columns = {data: _column([cells.get((model, data)) for model in models], mode) for data in datasets}
    heads = "".join(f"<th scope=col><span>{html.escape(data)}</span></th>" for data in ("", *datasets))
    body = []
    for at, model in enumerate(models):
        row = "".join(_cell(model, data, cells.get((model, data)), columns[data][at], dense) for data in datasets)
        body.append(f"<tr><th scope=row><span>{html.escape(model)}</span></th>{row}</tr>")
    kind = "map dense" if dense else "map"
    return (
        f'<div class=scroll><table class="{kind}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _column(column: Sequence[PairTally | None], mode: str) -> list[float | None]:
    """How good each model is on one dataset: the best 1, the worst 0, None where there is nothing yet."""
    values = [None if cell is None else cell.best for cell in column]
    known = [value for value in values if value is not None]
    if not known:
        return [None for _ in values]
    low, high = min(known), max(known)
    good, bad = (high, low) if mode == "max" else (low, high)
    return [None if value is None else 1.0 if high == low else (value - bad) / (good - bad) for value in values]


def _cell(model: str, dataset: str, cell: PairTally | None, share: float | None, dense: bool) -> str:
    if cell is None:
        return "<td></td>"
    value = "-" if cell.best is None else number_text(cell.best)
    failed = f"{cell.failed} failed" if cell.failed else ""
    told = f"{model} on {dataset}: {cell.done} of {cell.total} done, best {value}" + (f", {failed}" if failed else "")
    heat = "" if share is None else f' style="--heat:{_PALEST + (_DEEPEST - _PALEST) * share:.2f}"'
    top = " class=top" if share == 1.0 else ""
    under = _under(cell, failed) if not dense else ""
    bar = f'<i style="width:{cell.done / cell.total * 100:.0f}%"></i>' if 0 < cell.done < cell.total else ""
    return f'<td{top}{heat} title="{html.escape(told)}"><b>{value}</b>{under}{bar}</td>'


def _under(cell: PairTally, failed: str) -> str:
    """What is said below a pair's best: how far it is while it is not done, and its failures."""
    parts = [] if cell.done == cell.total else [f"<span>{cell.done}/{cell.total}</span>"]
    parts += [f"<em>{failed}</em>"] if failed else []
    return f" <small>{' '.join(parts)}</small>" if parts else ""
