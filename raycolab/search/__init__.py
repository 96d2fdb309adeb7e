"""How the configurations of a sweep are found: one module for each method, and the rows they make together."""

from raycolab.search.enumeration import enumerate_trials

__all__ = ["enumerate_trials"]
