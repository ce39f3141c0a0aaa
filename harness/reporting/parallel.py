"""Runs the parts of a report in processes: each analyses and draws one experiment."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


Progress = Callable[[int, int], object]
"""Called with how many of how many parts are done."""


def usable_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def run_each(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[Result]:
    """Return ``work`` of each item, in order, computed by up to ``jobs`` processes.

    With one job, or where processes cannot be forked, everything is computed here. The processes
    are forked from this one, so that they know what it has loaded; ask for several only from a
    process that runs no threads of its own, such as a command's.
    """
    results: list[Result] = []
    with contextlib.ExitStack() as stack:
        apply: Callable[..., Iterable[Result]] = map
        if min(jobs, len(items)) > 1 and "fork" in multiprocessing.get_all_start_methods():
            context = multiprocessing.get_context("fork")
            pool = ProcessPoolExecutor(min(jobs, len(items)), mp_context=context)
            apply = stack.enter_context(pool).map
        for result in apply(work, items):
            results.append(result)
            if progress is not None:
                progress(len(results), len(items))
    return results
