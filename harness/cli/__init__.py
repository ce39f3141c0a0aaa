"""The command line: arguments, printing, exit codes.

app.py                The command line: the group of commands, and how each ends
bisect_command.py     harness bisect: the same question under several versions of PyTorch
clean_stop.py         One clean stop for Ctrl-C, SIGTERM and SIGHUP
command.py            The form that all commands share: exit codes, --debug, examples
compare_command.py    harness compare: two runs, or two predictions, metric by metric
doctor_command.py     harness doctor: what can be measured on this machine
dry_run_command.py    harness dry-run: any PyTorch script on a pretended GPU
entry.py              The first code of the command harness, and the last
explain_command.py    harness explain: an out-of-memory message, a log or a memory snapshot
gpus_command.py       harness gpus: the GPUs and the machines that --gpu knows by a name
json_answer.py        --json: one shape for the answer of every command, and for its errors
mcp_command.py        harness mcp: the commands as tools of the Model Context Protocol
measure_command.py    harness measure: one isolated measurement
next_commands.py      The commands to type after an answer
parameter_types.py    Types of options
plan_command.py       harness plan: what to change so
predict_command.py    harness predict: the metrics of a step without running it
profile_command.py    harness profile: one step of any module, traced
replay_command.py     harness replay: a recording of the CUDA allocator
report_command.py     harness report: the report of a folder of records
reproduce_command.py  harness reproduce: every experiment, then the report
shared_options.py     Options that several commands share
standard_output.py    Standard output that may be full, closed or read by nobody
sweep_command.py      harness sweep: experiments into a folder of records; its part of reproduce
target_flags.py       The flags that describe a user's own network, shared by predict
threshold_command.py  harness threshold: the largest batch, depth or width that fits a budget
verdicts_command.py   harness verdicts: every claim of a report with its verdict
verify_command.py     harness verify: a run against its data package and its report
workload_flags.py     One flag per field of Workload, made from the field's own help and rule
"""
