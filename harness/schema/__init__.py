"""Plain data that everything shares: workloads, records, events, thresholds; no torch.

argument_checks.py      Checks of the arguments of public functions
compilation.py          Work of torch.compile
errors.py               The user's mistakes
events.py               The allocation trace
experiment.py           An experiment
findings.py             Findings of an experiment's analysis for the report
growth.py               Growth of what stays alive over the steps
input_spec.py           One input of a network as the command line names it, e.g
layer_names.py          Names of layers
library_files.py        Files of installed packages, of Python and of PyTorch
lifetimes.py            Lifetimes of blocks in an event log
memory_fit.py           The verdict on a memory budget or a GPU, and the largest batch that fits
metrics.py              Byte metrics with one meaning, whether measured or predicted
metrics_text.py         The metrics of a step as text
plain_text.py           Text from outside as data
provenance.py           Surroundings of a record and evidence of a failure
record.py               One measurement as strict JSON with a schema version
shown.py                Views of public objects, which layers above make
step_choices.py         The names that a step of a network may be described with
step.py                 harness.Step: one step of your own network as a value
step_report.py          One report for every question about a step
step_request.py         A step of the user's own network as a worker is asked for it
target_name.py          The name of a network: what is wrong with it, seen without PyTorch
traced_run.py           One traced step of any network as a line of JSON
threshold.py            The threshold of a workload, as strict JSON
training_run.py         A whole training run as strict JSON
unique_keys.py          JSON that gives no key of an object twice
units.py                Bytes to text and back: 268435456 <-> "256 MiB"
user_cache.py           Folders of the user that may be deleted at any time
workload.py             One training step, described completely, and grids of them
"""
