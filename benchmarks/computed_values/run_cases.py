"""Runs cases on the pretended GPU and prints each case's name and results as lines of JSON.

harness dry-run -m benchmarks.computed_values.run_cases -- operators --part 0 --parts 2
"""

import argparse
import dataclasses
import json
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks.computed_values import modules, operators, optimizers
from benchmarks.computed_values.comparison import Result, Tally
from benchmarks.computed_values.journal import cases_in

Case = tuple[str, Callable[[int], Iterator[Result]]]


def cases_of(group: str) -> list[Case]:
    """Return the cases of a group, each with its name."""
    if group == "operators":
        return [
            (f"{operators.name_of(op)} {dtype}", partial(operators.results, op, dtype))
            for op, dtype in operators.cases()
        ]
    if group == "modules":
        return [
            (f"{info.name} {dtype}", partial(modules.results, info, dtype))
            for info, dtype in modules.cases()
        ]
    return [
        (f"{optimizers.name_of(info)} {dtype}", partial(optimizers.results, info, dtype))
        for info, dtype in optimizers.cases()
    ]


def main() -> None:
    """Run the cases of one part that the journal does not have yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("group", choices=["operators", "modules", "optimizers"])
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--journal", type=Path, help="file of the cases that have run")
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--only", default="", help="cases whose names contain this text")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    done = cases_in(arguments.journal, arguments.group) if arguments.journal else set()
    cases = [case for case in cases_of(arguments.group) if arguments.only in case[0]]
    for name, run in cases[arguments.part :: arguments.parts]:
        if name not in done:
            _run(name, run, arguments.samples)
    _print({"done": True})


def _run(name: str, run: Callable[[int], Iterator[Result]], samples: int) -> None:
    _print({"case": name})
    try:
        for result in run(samples):
            _print({"result": dataclasses.asdict(result)})
    except Exception as error:  # of the database, which makes the samples, or of the comparison
        operator, _, dtype = name.rpartition(" torch.")
        broken = Tally("samples")
        broken.error(error)
        _print({"result": dataclasses.asdict(broken.result(operator, dtype))})
    _print({"ended": name})


def _print(line: object) -> None:
    print("\n" + json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
