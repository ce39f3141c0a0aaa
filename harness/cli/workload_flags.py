"""One flag per field of ``Workload``, made from the field's own help and rule."""

import dataclasses
from collections.abc import Collection
from typing import Any

import click

from harness.cli.parameter_types import WIDTHS, Choices, WholeNumber
from harness.cli.shared_options import Decorator, all_of
from harness.schema.workload import Workload, WorkloadError


def workload_flags(*, without: Collection[str] = ()) -> Decorator:
    """Return a decorator that adds the flags; the command receives them as ``**flags``."""
    items = dataclasses.fields(Workload)
    return all_of(*(_flag(item) for item in items if item.name not in without))


def _flag(item: "dataclasses.Field[Any]") -> Decorator:
    help_text = item.metadata["help"]
    if item.default not in (None, ()):
        help_text += f"  [default: {item.default}]"
    name = "--" + item.name.replace("_", "-")
    return click.option(name, item.name, type=_type_of(item), help=help_text)


def _type_of(item: "dataclasses.Field[Any]") -> "click.ParamType[Any]":
    """Return what reads a flag's text; ``Workload`` checks the limits."""
    if "choices" in item.metadata:
        return Choices(item.metadata["choices"])
    if item.name == "hidden":
        return WIDTHS
    return click.FLOAT if "share" in item.metadata else WholeNumber()


def workload_from(flags: dict[str, Any]) -> Workload:
    """Return the workload that the given flags describe."""
    given = {name: value for name, value in flags.items() if value is not None}
    if "hidden" in given:
        layers = len(given["hidden"])
        if given.get("depth", layers) != layers:
            rule = f"{layers}, the number of widths in --hidden"
            raise WorkloadError("depth", given["depth"], rule)
        if "width" in given:
            raise WorkloadError("width", given["width"], "left out when --hidden is given")
    return Workload(**given)
