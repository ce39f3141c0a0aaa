"""The old place of ``harness.prediction.estimate.operator_rules``."""

from harness.prediction.estimate.operator_rules import REGISTERED, register_operator

__all__ = ["REGISTERED", "register_operator"]
