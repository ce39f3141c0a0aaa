"""An ability of this machine, as ``harness doctor`` reports it."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Ability:
    """One kind of measurement; ``detail`` explains why it is available or not."""

    what: str
    available: bool
    detail: str

    def as_dict(self) -> dict[str, object]:
        """Return the ability as plain data."""
        return asdict(self)
