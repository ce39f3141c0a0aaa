"""What a user asks of predictions: one verb for every target, and a plan where it does not fit."""
