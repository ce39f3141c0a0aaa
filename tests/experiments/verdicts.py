"""Finds a verdict by its words, so that tests hold whatever the order of the verdicts is."""

from harness.schema.findings import Section, Verdict


def named(section: Section, words: str) -> Verdict:
    """Return the one verdict whose sentence contains ``words``."""
    found = [verdict for verdict in section.verdicts if words in verdict.sentence]
    assert len(found) == 1, [verdict.sentence for verdict in section.verdicts]
    return found[0]
