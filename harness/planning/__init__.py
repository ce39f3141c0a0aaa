"""Answers about a step of any target: predicted, measured, and a plan if it does not fit.

answer_gpus.py     A step traced on this machine or a pretended GPU, with the verdicts on GPUs
answer_plan.py     The plan of a step, each change of it tried in a fork
answer_run.py      A training loop of the user traced as a whole, and a function that counts
ask_step.py        Sends a question about a step to a worker, or has it estimated
bisect_versions.py The same question under several versions of PyTorch
changed_step.py    A step with the changes of a plan made to it
estimated_step.py  Answers a question about a step by the estimate, where nothing can be run
measure_step.py    harness.measure: a workload or a network, really run
model_hubs.py      Networks by the name that a hub gives them: hf:, timm: and torchvision:
plan.py            harness.plan: what to change so that a batch fits on a GPU
plan_result.py     The answer of harness.plan
plan_search.py     The search of a plan
predict.py         harness.predict: a workload, a network or a whole run
predict_step.py    The prediction of a step of a network, or of a whole training loop
sent_step.py       The request for a step: names stay names, Python objects are pickled
step_advice.py     Advice on errors of the user's network
step_answer.py     Answers a question in a worker: one handler for each kind of question
step_bench.py      A step tried on a pretended GPU, at any batch and within any memory
step_changes.py    Changes of a training step that a plan may make, each with its cost in time
step_needs.py      The memory that a try of a step needs, and the bench that a search asks
step_question.py   Questions about a step as a worker gets them, each with the type of its answer
step_search.py     Verdicts on GPUs of one kind, and the largest batch that fits
workload_step.py   A workload's step as a step of any network
"""
