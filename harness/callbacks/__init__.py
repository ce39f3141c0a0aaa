"""Callbacks of trainers that predict a training's memory and then look whether it was so.

hugging_face.py  MemoryCheck for transformers.Trainer
lightning_fit.py MemoryCheck for lightning's Trainer
step_check.py    What both do: ask before the first step, compare after the second

Each callback's file imports its trainer's package, and nothing else of the harness imports it.
"""
