"""What a sweep found.

table   the results: data frame, best, pivot, errors, files of them
frame   the data frame's columns
values  the number a trial is judged by
causes  failures grouped by cause
tally   trials by pair, node and cause, kept up as they end
study   a pair as an Optuna study, and which parameters mattered
report  the page about a sweep, of the pictures in `charts` and `ticks`, in `markup` and `report_style`
pairs_map, tones   models x datasets in colours, and those colours: the report's and the panels'
worth   what the cluster was worth, and a line that runs the best configuration
"""

__all__: list[str] = []
