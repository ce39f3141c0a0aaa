"""The user's mistakes: one line each, saying what is wrong and how to mend it."""


class HarnessError(Exception):
    """Base of every error that the command line shows as one line with exit code 2."""
