"""A limit on the seconds that reading and replaying a recording may take.

They are the process's own (CPU) seconds, so that a busy machine refuses nothing.
"""

import time

from harness.snapshots.file_bytes import SnapshotError

DEFAULT_SECONDS = 60.0
EVENTS_BETWEEN_CHECKS = 256


class Deadline:
    """Seconds from now on; work that may be long checks it now and then."""

    def __init__(self, seconds: float = DEFAULT_SECONDS) -> None:
        self.seconds = seconds
        self._end = time.process_time() + seconds

    def check(self, doing: str) -> None:
        """Refuse to go on once the time is over.

        Raises:
            SnapshotError: the time is over; one line that says during what.
        """
        if time.process_time() > self._end:
            raise SnapshotError(
                f"{doing} takes longer than {self.seconds:g} s; allow more with --deadline"
            )
