"""Finds a verdict by its words, so that tests hold whatever the order of the verdicts is."""

from harness.schema.findings import Claim, Section


def named(section: Section, words: str) -> Claim:
    """Return the one verdict whose sentence contains ``words``."""
    result = [claim for claim in section.claims if words in claim.sentence]
    assert len(result) == 1, [claim.sentence for claim in section.claims]
    return result[0]
