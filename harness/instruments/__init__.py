"""Instruments that observe memory, and that do not depend on models or workloads."""
