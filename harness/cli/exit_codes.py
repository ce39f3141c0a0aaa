"""The exit codes of every command. 0 and 1 keep their usual meaning: done, internal error."""

DONE = 0
INTERNAL_ERROR = 1
USER_ERROR = 2
"""A wrong option, file or value; one line says what is wrong and what is allowed."""
NOT_OK = 3
"""The command ran and the outcome is not ok: out of memory, unsupported, different."""
INTERRUPTED = 130
