"""The number of examples of a property: a quarter while a person waits, all of them in CI."""

import os

from hypothesis import settings

ALL = os.environ.get("HYPOTHESIS_PROFILE") == "ci"


def examples(number: int) -> int:
    """Return how many of ``number`` examples are drawn."""
    return number if ALL else -(-number // 4)


settings.register_profile("ci", max_examples=100, deadline=None)
settings.register_profile("dev", max_examples=examples(100), deadline=None)
settings.load_profile("ci" if ALL else "dev")  # for a property that names no number
