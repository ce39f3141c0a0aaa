"""A grid of workloads into a store of records, with resume.

executors/           Executors that measure cells
experiment_files.py  Finds experiments: the harness's own, those in ./experiments
local_runners.py     Runs jobs one at a time on this machine, each in processes of its own
runner.py            The interfaces of a runner of one kind of job, and of an executor
store.py             The records of one experiment's run
sweep.py             Runs the jobs of an experiment or of a grid, keeps each result
"""
