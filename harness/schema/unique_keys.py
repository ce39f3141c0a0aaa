"""Reads JSON, and rejects JSON objects with duplicate keys."""

import json


def read_json(text: bytes | str) -> object:
    """Return the value of a JSON text; raise ``ValueError`` for duplicate keys, NaN or infinity."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError(str(error)) from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"{key}: given twice")
        values[key] = value
    return values


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")
