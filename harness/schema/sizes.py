"""The type of a size in a record, in whole bytes."""

from typing import Annotated

from msgspec import Meta

Bytes = Annotated[int, Meta(ge=0, le=2**63 - 1)]
