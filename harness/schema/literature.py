"""Claims of the literature, the parts of a judgement, and the published numbers next to them."""

from dataclasses import dataclass

from harness.schema.findings import Figure, Table, Verdict


@dataclass(frozen=True, kw_only=True)
class Source:
    """A sentence of the literature, and the sentence that the harness tests in its place."""

    citation: str
    """Authors and year, and the arXiv number or the address without a scheme."""
    quote: str
    """The sentence as its source has it, or as ``secondary`` repeats it."""
    secondary: str = ""
    """Place where the quote was read, if not in the source itself."""
    sentence: str
    """The harness's version of it: what exactly is tested."""
    headline: str
    """The claim in at most about eight words, for the table."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A number that decides, derived a second way."""

    name: str
    value: int | float
    second: int | float
    second_from: str
    """Source of ``second``: closed form, the other instrument, the real GPU of a witness."""
    allowed: int | float = 0
    """Largest difference that leaves the verdict standing."""

    @property
    def difference(self) -> int | float:
        """The number less the second one."""
        return self.value - self.second

    @property
    def holds(self) -> bool:
        """True if the two agree as well as they have to."""
        return abs(self.difference) <= self.allowed


@dataclass(frozen=True, kw_only=True)
class Witness:
    """A published measurement of a real GPU next to the harness's number for the same step."""

    name: str
    published_bytes: int
    ours_bytes: int
    why: str
    """Reason for the difference, or "equal"."""
    source: str
    """Repository and file, and the GPU."""

    @property
    def difference_bytes(self) -> int:
        """The harness's number less the published one."""
        return self.ours_bytes - self.published_bytes


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Judgement of the steps on a source's sentence."""

    verdict: Verdict
    number: str
    """The number that decides, in a few words, for the table."""
    measured: str
    """A sentence or two with the numbers."""
    closed_form: str
    """The rule behind the numbers, as a formula in words or symbols."""
    limits: str
    """Limits beyond which the verdict is not true."""
    checks: tuple[Check, ...]
    """At least one: no number decides that was not derived a second way."""
    witnesses: tuple[Witness, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
