"""MAIN: the user's notebook, read and frozen where a sweep is declared, run where a trial runs.

notebook        the frozen notebook: its cells, its fingerprint, what `compute` takes
cell_roles      what a worker does with each cell, and why not
cell_source     a cell's Python, as IPython would read it
signature       the arguments of `compute`, read without running anything
runtime         MAIN in a worker process: setup once, then a trial at a time
shell           the IPython shell it runs in
node_once       what must run once per node, under a lock
returned        what `compute` may return
cell_traceback  tracebacks that name cells by number
output_tail     the last lines a trial printed
"""

__all__: list[str] = []
