"""Sizes that depend on values nobody knows: such a run is no answer, or an upper bound."""

from collections.abc import Sequence

from harness.dry_run.dry_run_report import ValueRead

MOST_PLACES = 3


def unknown_sizes(reads: Sequence[ValueRead]) -> str | None:
    """Return why the run is no answer: a size depends on an unknown value; None if none does."""
    places = [read for read in reads if read.open_sizes]
    if not places:
        return None
    named = ", ".join(f"{read.place} ({', '.join(read.sizes)})" for read in places[:MOST_PLACES])
    more = f" and {len(places) - MOST_PLACES} more places" if len(places) > MOST_PLACES else ""
    line = places[0].place.rpartition("/")[2]
    if places[0].integers:
        hint = f"--answer {line}=NUMBER gives the value that is read, 0 if it is zero"
    else:
        hint = (
            f"--answer {line}=all gives an upper bound, a number the size, a number below 1 a"
            " fraction"
        )
    return f"size depends on values at {named}{more}; {hint}"


def bounds(reads: Sequence[ValueRead]) -> list[str]:
    """Return a note for each place whose sizes the user answered."""
    notes = []
    for read in reads:
        if read.sizes and not read.open_sizes:
            upper = "all elements, so the peaks are an upper bound" if read.answer == "all" else ""
            notes.append(
                f"sizes at {read.place} are those of --answer: {upper or f'{read.answer}'}"
            )
    return notes
