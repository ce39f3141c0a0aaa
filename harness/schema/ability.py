"""A kind of measurement that ``harness doctor`` reports as available or not."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Ability:
    """A kind of measurement, with the reason why this machine can or cannot make it."""

    what: str
    available: bool
    detail: str

    def as_dict(self) -> dict[str, object]:
        """Return the fields as a dict."""
        return asdict(self)
