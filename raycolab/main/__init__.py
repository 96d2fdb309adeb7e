"""MAIN: the user's notebook, read and frozen where a sweep is declared, run where a trial runs.

notebook     the frozen notebook: its cells, its fingerprint, what `compute` takes
roles        what a worker does with each cell, and why it skips one
source       a cell's Python, as IPython would read it
compute      the arguments, reports and metrics of `compute`
runtime      MAIN in a worker process: setup once, then one trial after another
shell        the IPython shell it runs in
process      the process that MAIN runs in, beside the worker that holds its slot
work_folder  where it runs on a node
node_setups  which of a node's processes sets MAIN up first, and what the others are told
commands     shell commands
packages     what an install may not change
kernel_only  what only a notebook's kernel can do, answered in a worker
traceback    tracebacks that name cells by number
output       what MAIN prints: kept, bounded, and each trial with streams of its own
seeds        the random numbers of a trial
kernel       `run_main`: all cells of a notebook in this kernel
"""

__all__: list[str] = []
