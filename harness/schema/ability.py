"""An ability of this machine, as ``harness doctor`` reports it."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Ability:
    """One kind of measurement: if it is available, and how or why not."""

    what: str
    available: bool
    detail: str

    def as_dict(self) -> dict[str, object]:
        """Return it as plain data."""
        return asdict(self)
