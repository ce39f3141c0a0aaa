"""Code that runs: the note's two models, their data, and one step in phases.

data.py             Batches of Fashion-MNIST's shape and type: synthetic, or the real images
models.py           The two networks of the course note, MLP and MLPScratch
module_step.py      One step of any network, phase by phase; its optimizers and losses by name
nested_tensors.py   The tensors inside any nesting of containers
own_step.py         One step of the user's own network
requested_step.py   The step that a request describes: names looked up, sent objects unpacked
training_step.py    Builds a workload's step
"""
