"""Values that a step reads from the pretended GPU: known, answered by the user, or unknown."""

from collections.abc import Iterable

from harness.dry_run.dry_run_text import reads_in_words
from harness.dry_run.own_code import is_own
from harness.dry_run.unknown_sizes import bounds, unknown_integers, unknown_sizes
from harness.dry_run.value_answers import check_answers, parse_answer
from harness.dry_run.value_reads import ValueReads
from harness.schema.errors import UnsupportedError


class StepValues:
    """Follows the values of one process, whose CUDA is initialised."""

    def __init__(self, answers: Iterable[str]) -> None:
        """Begin to follow.

        Args:
            answers: what is read, each as ``FILE:LINE=ANSWER``.

        """
        known = dict(map(parse_answer, answers))
        check_answers(known)
        self._reads = ValueReads(known, is_own)
        self._reads.listen()

    def refuse_unknown_sizes(self) -> None:
        """Refuse what is no answer.

        Raises:
            UnsupportedError: the size of a tensor depends on a value that nobody knows.

        """
        reads = self._reads.found()
        reason = unknown_sizes(reads) or unknown_integers(reads)
        if reason is not None:
            raise UnsupportedError(reason)

    def notes(self) -> tuple[str, ...]:
        """Return how many values were read, and which sizes the user answered."""
        reads = self._reads.found()
        return (*[reads_in_words(reads)] * bool(reads), *bounds(reads))
