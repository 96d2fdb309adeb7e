"""How the cluster and its sweeps look to a person; beside the command line the only writer to a terminal."""

from __future__ import annotations

from raycolab.display.progress import SweepProgress, best_text, sweep_line
from raycolab.display.tables import nodes_table, results_table, sweeps_table, traffic_lines

__all__ = ["SweepProgress", "best_text", "nodes_table", "results_table", "sweep_line", "sweeps_table", "traffic_lines"]
