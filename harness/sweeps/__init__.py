"""A grid of workloads into a store of records, with resume.

executors/            Executors that measure cells
experiment_files.py   Finds experiments: the harness's own, those in ./experiments
experiment_origin.py  Keeps next to the records which file of the user's defines their
local_runners.py      Runs jobs one at a time on this machine, each in processes of its own
runner.py             The interface of a kind of job
step_runner.py        Runs single steps of workloads through an executor
store.py              The records of one experiment's run
sweep.py              Runs the jobs of an experiment or of a grid, keeps each result
"""
