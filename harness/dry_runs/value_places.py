"""Data types and texts for the places at which a script reads GPU values."""

from collections.abc import Sequence

from msgspec import Struct

from harness.dry_runs.value_answers import Answer

MOST_PLACES = 3


class ValueRead(Struct, frozen=True, kw_only=True):
    """A place in the code where the script read values from the GPU.

    Attributes:
        count: number of reads.
        known: number of reads that returned the true value, not an answer or a made-up value.
        answer: value that the user gave for this place (``--answer``), if any.
        sizes: operators at this place whose result has an unknown size.
        open_sizes: number of results whose size is unknown and has no upper bound.
        numbers: number of reads that returned made-up numbers.
        integers: number of reads that returned made-up integers or made-up tensors.
        lines: lines that asked for the truth of an unknown condition, or for an unknown size.
    """

    place: str
    text: str
    count: int
    bytes: int
    answer: Answer | None = None
    known: int = 0
    sizes: tuple[str, ...] = ()
    open_sizes: int = 0
    numbers: int = 0
    integers: int = 0
    lines: tuple[str, ...] = ()

    @property
    def is_made_up(self) -> bool:
        """Return whether a value was made up here: a real run may go another way."""
        return bool(self.numbers or self.lines)


def unknown_sizes(reads: Sequence[ValueRead]) -> str | None:
    """Return an error message if an unknown size has no upper bound, else None."""
    open_sizes = [read for read in reads if read.open_sizes]
    if not open_sizes:
        return None
    named = listed([f"{read.place} ({', '.join(read.sizes)})" for read in open_sizes])
    return f"size depends on values at {named}; {answers_to_type(open_sizes, 'NUMBER')} gives it"


def made_up_places(reads: Sequence[ValueRead]) -> tuple[str, ...]:
    """Return the places at which values were made up."""
    return tuple(read.place for read in reads if read.is_made_up)


def checks_in_words(lines: Sequence[str]) -> str:
    """Return a sentence about checks of unknown values that are assumed to pass."""
    return f"checks of values that nobody knows are taken to pass: {listed(lines)}"


def reads_in_words(reads: Sequence[ValueRead]) -> str:
    """Return a text such as ``12 values read: 10 known, 2 unknown at train.py:80``."""
    total = sum(read.count for read in reads)
    parts = [f"{sum(read.known for read in reads):,} known"]
    answered = [read for read in reads if read.answer is not None]
    unknown = [read for read in reads if read.answer is None and read.known < read.count]
    if answered:
        parts.append(f"{sum(read.count - read.known for read in answered):,} answered")
    if unknown:
        places = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        count = sum(read.count - read.known for read in unknown)
        first = unknown[0].place.rpartition("/")[2]
        parts.append(f"{count:,} unknown at {first}{places}")
    return f"{total:,} value{'s' * (total > 1)} read: {', '.join(parts)}"


def listed(places: Sequence[str]) -> str:
    """Return a text that lists the first places and the number of further places."""
    more = f" and {len(places) - MOST_PLACES} more places" if len(places) > MOST_PLACES else ""
    return ", ".join(places[:MOST_PLACES]) + more


def bounds(reads: Sequence[ValueRead]) -> list[str]:
    """Return notes about sizes that the user gave as answers."""
    notes = []
    for read in reads:
        if read.sizes and read.answer is not None:
            upper = "all elements, so the peaks are an upper bound" if read.answer == "all" else ""
            notes.append(
                f"sizes at {read.place} are those of --answer: {upper or f'{read.answer}'}"
            )
    return notes


def answers_to_type(reads: Sequence[ValueRead], answer: str) -> str:
    """Return the command-line options that would set values for these reads."""
    few = reads[:MOST_PLACES]
    return " ".join(f"--answer {read.place.rpartition('/')[2]}={answer}" for read in few)
