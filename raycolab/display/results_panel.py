"""Results as one panel: the counts, models x datasets, the best, the causes of failures, and where to go from here."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from raycolab.display.panel import facts, panel, part
from raycolab.display.sweep_panel import causes_part, count_bar, sweep_header
from raycolab.results.causes import causes
from raycolab.results.pairs_map import pairs_map
from raycolab.results.values import metric_value
from raycolab.wording import config_text, number_text

if TYPE_CHECKING:  # `status` must not pay for importing pandas
    from raycolab.results.table import Results

__all__ = ["results_panel"]

_MOST_CAUSES = 12


def results_panel(results: Results) -> str:
    """The panel."""
    metric = results.metric
    counts = results.counts()
    best = results.best_trial
    named = {}
    if best is not None:
        named[f"best {metric.name}"] = number_text(metric_value(best, metric))
        named["of"] = f"{best.model} on {best.dataset}, trial {best.number}"
        named["configuration"] = config_text(best.config or {})
    found = [{"text": cause.told, "count": cause.count} for cause in causes(results.rows)]
    table = pairs_map(results.models, results.datasets, results.pairs, metric.mode) if results.rows else ""
    return panel(
        (
            sweep_header(results.name, "", counts),
            count_bar(counts),
            facts(named),
            part("Models by datasets", table, f"best {metric.name} ({metric.mode}) of each pair"),
            causes_part(found[:_MOST_CAUSES], len(found) - _MOST_CAUSES),
            f"<p class='part steps'>{_NEXT}</p>" if results.rows else "",
        )
    )


_NEXT = "; ".join(
    f"<code>{html.escape(call)}</code> {what}"
    for call, what in (
        (".dataframe", "every trial"),
        (".errors", "failures with their tracebacks"),
        ('.report("out.html")', "a page to keep"),
    )
)
