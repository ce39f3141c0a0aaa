"""Answers about a step of any target: predicted, measured, and a plan if it does not fit.

ask_step.py        Sends a question about a step to a worker and returns the answer
changed_step.py    A step with the changes of a plan made to it
counted_answer.py  Calls a function that counts, in a worker
estimated_step.py  The estimate of a step on meta tensors as a report, where nothing can be run
measure_step.py    harness.measure: a workload or a network, really run
plan.py            harness.plan: what to change so that a batch fits on a GPU
plan_answer.py     Answers what to change in a step so that it fits
plan_result.py     The answer of harness.plan
plan_search.py     The search of a plan
predict.py         harness.predict: a workload, a network or a whole run
predict_run.py     The prediction of a whole training loop
predict_step.py    The prediction of one step of a network
run_answer.py      Answers a question about a whole training loop
step_answer.py     Answers a question about a step, in a worker
step_bench.py      A network built once on a pretended GPU
step_changes.py    Changes of a training step that a plan may make, each with its cost in time
step_question.py   A question about a step as a worker gets it, and the answer that comes back
step_search.py     Verdicts on GPUs of one kind, and the largest batch that fits
step_values.py     Values that a step reads from the pretended GPU
"""
