"""The verdict on memory: it fits, it does not, or it depends on what nobody knows beforehand."""

from typing import Final, Literal

Fit = Literal["fits", "does not fit", "close call"]
"""A close call fits in some cases: it depends on where the driver places segments and on how
much memory the CUDA context takes."""

FITS: Final = "fits"
DOES_NOT_FIT: Final = "does not fit"
CLOSE_CALL: Final = "close call"


def fit_of(*, in_every_case: bool, in_some_case: bool) -> Fit:
    """Return the verdict on what completes in every case, in some, or in none."""
    if in_every_case:
        return FITS
    return CLOSE_CALL if in_some_case else DOES_NOT_FIT
