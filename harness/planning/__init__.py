"""Predicts or measures a step of any target, and plans changes if it does not fit."""
