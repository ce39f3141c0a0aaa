"""A grid of workloads into a store of records, with resume.

executors/            Executors that measure cells
experiment_files.py   Finds experiments: the harness's own, those in ./experiments
experiment_origin.py  Keeps next to the records which file of the user's defines their
grid_sweep.py         harness.sweep: any workloads into a folder of records
rank_runner.py        Runs one rank of many under the CUDA dry run, one at a time
runner.py             The interface of a kind of job
step_runner.py        Runs single steps of workloads through an executor
store.py              The records of one experiment's run
sweep.py              Runs an experiment's jobs, keeps each result, resumes by itself
threshold_runner.py   Finds thresholds, one at a time on this machine
traced_runner.py      Traces steps of any network, on this CPU or on a pretended GPU
training_runner.py    Runs whole training runs, one at a time on this machine
"""
