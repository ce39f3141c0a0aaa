"""Answers about a step of any target: predicted, measured, and a plan if it does not fit."""
