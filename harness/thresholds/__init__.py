"""The largest batch that fits into a budget: the search and its probes.

enforcement.py     Enforcement of a budget for a workload on this machine
find_threshold.py  Finds a threshold for real
search.py          Finds where a probe stops fitting
"""
