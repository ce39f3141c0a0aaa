"""Closed forms and the event sequence of an MLP step, on the CPU; no torch."""
