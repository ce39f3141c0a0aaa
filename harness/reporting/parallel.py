"""Runs the parts of a report in processes: each analyses and draws one experiment."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
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
    total = len(items)
    if jobs == 1 or total < 2 or "fork" not in multiprocessing.get_all_start_methods():
        results = []
        for done, item in enumerate(items, 1):
            results.append(work(item))
            if progress is not None:
                progress(done, total)
        return results
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(min(jobs, total), mp_context=context) as pool:
        futures = [pool.submit(work, item) for item in items]
        for done, _ in enumerate(as_completed(futures), 1):
            if progress is not None:
                progress(done, total)
        return [future.result() for future in futures]
