"""What a sweep found: a table (`table`, of the columns in `frame`), Optuna studies (`study`), and what the cluster was
worth (`speedup`). The panel and the report of results are in `raycolab.view`.
"""

__all__: list[str] = []
