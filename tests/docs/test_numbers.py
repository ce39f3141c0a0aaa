"""Numbers of the reference run in the documentation are those of its claims."""

from pathlib import Path

import pytest

from harness.reporting.claims import REFERENCE, read_claims

ROOT = Path(__file__).parents[2]
SAVED, PEAK = "Saved activations: grows as depth x batch", "Peak live: grows as depth x batch"
DEEPER = "Deeper networks run out of memory at smaller batches"


@pytest.mark.parametrize(
    ("page", "words", "claim", "said"),
    [
        (
            "README.md",
            "`1,024·depth·batch + 40·batch + 4` bytes",
            SAVED,
            "40·batch + 4 gives the exact bytes",
        ),
        ("README.md", "exact in 63 of 63 measured cells", SAVED, "bytes in 63 of 63 cells"),
        (
            "README.md",
            "From depth 32 and batch 2,048 on, the peak doubles",
            PEAK,
            "depths from 32 with batches from 2,048",
        ),
        ("README.md", "in 48 of 48 steps", DEEPER, "falls in 48 of 48 steps"),
        ("docs/index.md", "+ 40·batch + 4` bytes in all 63 cells", SAVED, "63 of 63"),
        (
            "docs/index.md",
            "only from depth 32 and batch 2,048 on",
            PEAK,
            "from 32 with batches from 2,048",
        ),
    ],
)
def test_a_number_of_the_reference_run_is_that_of_its_claim(
    page: str, words: str, claim: str, said: str
) -> None:
    assert words in " ".join((ROOT / page).read_text().split())
    (found,) = (one for one in read_claims(REFERENCE).claims if one.claim == claim)
    assert said in " ".join([found.number, found.measured, found.holds_for])
