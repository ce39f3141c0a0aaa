"""The largest batch that fits into a budget: the search and its probes.

enforcement.py     How a budget is enforced for a workload here, and which budgets are refused
find_threshold.py  Finds a threshold for real
probing.py         Runs the workload within the budget in pristine processes, a value at a time
search.py          Finds where a probe stops fitting
"""
