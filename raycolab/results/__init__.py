"""What a sweep found.

table   the results: data frame, best, pivot, errors, files of them
frame   the data frame's columns
causes  failures grouped by cause
worth   what the cluster was worth, and a line that runs the best configuration
"""

__all__: list[str] = []
