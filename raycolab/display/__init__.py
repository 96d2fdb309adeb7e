"""How the cluster and its sweeps look to a person; beside the command line the only writer to a terminal.

progress      a running sweep: a live line, a panel, or a line per change
tables        nodes, sweeps and results on a terminal
panel         the pieces of every panel, in `panel_style`; pure, as are those below
sweep_panel   head_panel   joiner_panel   results_panel   error_panel   node_rows
surface       one output of a notebook's cell, updated in place
head_view     the head's panel kept true; joiner_surface where `raycolab.join` shows what happens
"""

from __future__ import annotations

from raycolab.display.progress import SweepProgress, best_text, sweep_line
from raycolab.display.tables import nodes_table, results_table, sweeps_table, traffic_lines

__all__ = ["SweepProgress", "best_text", "nodes_table", "results_table", "sweep_line", "sweeps_table", "traffic_lines"]
