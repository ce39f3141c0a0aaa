"""Setting that says how many values on the GPU a dry run computes, and the stub's account of it."""

import ctypes
import os
import sys
from collections.abc import Sequence
from typing import Final, Literal, get_args

from msgspec import Struct, structs

from harness.dry_runs.trial_values import LIBRARY_VARIABLE

Compute = Literal["auto", "all", "none"]
COMPUTE: Final[tuple[str, ...]] = get_args(Compute)
"""``auto`` computes values within a budget of time and memory, ``all`` computes all values, and
``none`` computes only a few small ones."""

_VARIABLE, _SECONDS = "HARNESS_COMPUTE", "HARNESS_COMPUTE_SECONDS"
_BYTES = "HARNESS_COMPUTE_BYTES"
_SHARE = 4
"""Divisor of the free memory for what values may take: two runs and their scripts share it."""


def compute_variables(compute: Compute, seconds: float | None = None) -> dict[str, str]:
    """Return the environment variables that tell the stub how much to compute."""
    from harness.processes.limits import machine_memory  # a script's processes need no psutil

    return {
        _VARIABLE: compute,
        _SECONDS: "" if seconds is None else f"{seconds}",
        _BYTES: str(machine_memory.available().bytes // _SHARE),
    }


def computes() -> bool:
    """Return whether values are computed in this process."""
    return os.environ.get(_VARIABLE, "none") != "none"


class Computed(Struct, frozen=True, kw_only=True):
    """Account of the values on the pretended GPU that a dry run computed.

    Attributes:
        setting: ``auto``, ``all`` or ``none``.
        operators: number of operators that PyTorch's CPU kernels computed.
        seconds: time that computing them took.
        stopped_by: ``time`` or ``memory`` if that part of the budget was used up, else None.
        stopped_after_step: optimizer steps that were computed, if the budget was used up.
        step_seconds: estimated time to compute one more optimizer step, if the budget was used up.
        rest_seconds: what was not computed because the budget was used up, in the budget's seconds.
        not_computed: operators that no CPU kernel could compute, and kernels of other people.
        is_random: whether operators drew random numbers, which are those of the CPU.
    """

    setting: str
    operators: int = 0
    seconds: float = 0.0
    stopped_by: Literal["time", "memory"] | None = None
    stopped_after_step: int | None = None
    step_seconds: float | None = None
    rest_seconds: float = 0.0
    not_computed: tuple[str, ...] = ()
    is_random: bool = False


class _Spent(ctypes.Structure):
    """The structure ``Spent`` of ``stub/values/budget.h``."""

    _fields_ = (
        ("operators", ctypes.c_uint64),
        ("reckoned_seconds", ctypes.c_double),
        ("later_seconds", ctypes.c_double),
        ("measured_seconds", ctypes.c_double),
        ("random", ctypes.c_uint64),
        ("stopped", ctypes.c_int32),
        ("not_computed", ctypes.c_char * 1024),
    )


def stub_account() -> _Spent | None:
    """Return the stub's account; None while PyTorch is not loaded or nothing is computed."""
    if "torch" not in sys.modules or not computes() or LIBRARY_VARIABLE not in os.environ:
        return None
    library = ctypes.CDLL(os.environ[LIBRARY_VARIABLE])
    library.harness_spent.restype = ctypes.POINTER(_Spent)
    spent: _Spent = library.harness_spent().contents
    return spent


class ComputedSteps:
    """Notes the optimizer step in which the budget was used up."""

    def __init__(self) -> None:
        self._last: int | None = None

    def look(self, step: int) -> None:
        """Look at the budget after an optimizer step."""
        spent = stub_account() if self._last is None else None
        if spent is not None and spent.stopped:
            self._last = step - 1

    def computed(self, steps: int) -> Computed:
        """Return the account of a run with this number of optimizer steps."""
        spent = stub_account()
        if spent is None:
            return Computed(setting=os.environ.get(_VARIABLE, "none"))
        stopped = (None, "time", "memory")[spent.stopped]
        after = steps if self._last is None else self._last
        speed = spent.measured_seconds / spent.reckoned_seconds if spent.operators else 1.0
        rest = spent.later_seconds / max(1, steps - after) if stopped and steps > after else None
        return Computed(
            setting=os.environ[_VARIABLE],
            operators=spent.operators,
            seconds=spent.measured_seconds,
            stopped_by=stopped,  # type: ignore[arg-type]
            stopped_after_step=after if stopped else None,
            step_seconds=None if rest is None else rest * speed,
            rest_seconds=spent.later_seconds,
            not_computed=tuple(sorted(spent.not_computed.decode().splitlines())),
            is_random=bool(spent.random),
        )


def computed_together(accounts: Sequence[Computed]) -> Computed:
    """Return the account of several processes; its budget is the first one that was used up."""
    return structs.replace(
        min(accounts, key=lambda one: (one.stopped_by is None, one.stopped_after_step or 0)),
        operators=sum(one.operators for one in accounts),
        seconds=sum(one.seconds for one in accounts),
        rest_seconds=sum(one.rest_seconds for one in accounts),
        not_computed=tuple(sorted({name for one in accounts for name in one.not_computed})),
        is_random=any(one.is_random for one in accounts),
    )


def computed_lines(computed: Computed | None, known: int, reads: int) -> list[str]:
    """Return sentences that say what was computed; ``known`` of ``reads`` values were."""
    if computed is None or computed.setting == "none" or not (computed.operators or reads):
        return []
    lines = []
    if computed.stopped_by is not None:
        after = computed.stopped_after_step or 0
        steps = f"{after:,} optimizer step{'s' * (after != 1)}"
        first = f"for the first {steps}" if after else "at first"
        cost = ""
        if computed.step_seconds is not None:
            cost = f": computing them would take about {_duration(computed.step_seconds)} a step"
        lines.append(
            f"Values were computed {first}, until the budget of {computed.stopped_by} was used up;"
            f" from then on losses are not known{cost} (--compute all)."
        )
    elif reads:
        lines.append(
            f"{known:,} of {reads:,} values that the script read were computed"
            f" ({computed.operators:,} operators in {computed.seconds:.1f} s)."
        )
    if computed.not_computed:
        lines.append(f"Not computed: {', '.join(computed.not_computed)}.")
    if computed.is_random and reads:
        lines.append(
            "Random numbers of the GPU are the CPU's: a real GPU has others with this seed."
        )
    return lines


def _duration(seconds: float) -> str:
    """Return a duration in words, such as ``3 minutes``."""
    for size, name in ((3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = round(seconds / size)
            return f"{count:,} {name}{'s' * (count != 1)}"
    return f"{seconds:.1g} s" if seconds < 10 else f"{seconds:.0f} s"
