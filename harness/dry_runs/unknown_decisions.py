"""Chooses and records decisions on unknown values, which a dry run cannot compute.

In the first run, every unknown number is zero and every unknown truth value is false. In the second
run, every decision has the result True, in the third run False. In further runs, only some lines
decide True. After many decisions in one line, True and False alternate, because a loop may wait for
either result.
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from types import CodeType, FrameType, TracebackType
from typing import Final

from harness.dry_runs.trial_values import Sides
from harness.dry_runs.value_places import Decision
from harness.schema.library_files import is_library

MANY: Final = 500
"""Number of decisions of one line after which the results alternate between true and false."""
_NEAR: Final = 3
_INSIDE = (
    *("/unknown_numbers.py", "/unknown_texts.py", "/number_uses.py", "/after_import.py"),
    *("/unknown_decisions.py", "/value_reads.py", "/python_types.py", "/followed_functions.py"),
)
_SAYING = "/tqdm/std.py", "/torch/utils/tensorboard/_convert_np.py"
"""Files that only print or log numbers, so their uses of numbers are not decisions."""


class Decisions:
    """Chooses the results of decisions in one run.

    Args:
        sides: object that chooses the result of decisions, for each line of code.
        decided: fixed results by line, because the opposite results ended in an error.
        on_use: called when an unknown value is first used.
    """

    def __init__(
        self, sides: Sides, decided: Mapping[str, bool], on_use: Callable[[], object]
    ) -> None:
        self._sides = sides
        self._decided = decided
        self._on_use = on_use
        self._counts: dict[str, int] = {}
        self._last: tuple[str, bool, list[CodeType]] | None = None
        self.lines: dict[str, set[str]] = {}
        """For each place that reads values, the lines whose decisions use these values."""
        self.numbers: set[str] = set()
        """Places whose values are used as numbers, not only as true or false."""
        self.picked: set[str] = set()
        """Places whose numbers were compared with known numbers, e.g. by ``max``."""
        self.uses: Counter[str] = Counter()
        """Number of uses of unknown values, by the line that decides, or else by the line that read
        the value."""

    def truth(
        self, place: str, otherwise: bool, *, opposite: bool = False, chooses: bool = False
    ) -> bool:
        """Return the result of a comparison or truth test of an unknown value.

        ``otherwise`` is the result of the operation on the number that was read. If code chooses
        between numbers, e.g. with ``max``, the result is always ``otherwise``, because another
        result could hide that a number has no upper bound.
        """
        frame = _asking()
        line = "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
        self.use(place, line)
        count = self._counts[line] = self._counts.get(line, 0) + 1
        if line in self._decided:
            answer = self._decided[line]
        elif count > MANY:
            answer = bool(count % 2)
        else:
            side = (self._sides.first() if count == 1 else None) or self._sides.of(line)
            answer = otherwise if side is None or chooses else side != opposite
        self._last = line, answer, _callers(frame)
        return answer

    def use(self, place: str, line: str = "", *, is_number: bool = False) -> None:
        """Record the use of a value read at ``place``, by a decision in ``line`` or as a number."""
        if not self.lines:
            self._on_use()
        self.lines.setdefault(place, set())
        self.uses[line or place] += 1
        if line:
            self.lines[place].add(line)
        if is_number or not line:
            self.numbers.add(place)

    def failed_by(self, error: BaseException | None) -> Decision | None:
        """Return the decision that led to an error; None if no decision led to the error."""
        if error is None or self._last is None:
            return None
        line, answer, deciding = self._last
        raising = _functions(error.__traceback__)[-2:]
        near = any(code in deciding for code in raising)  # it raises, or a function next to it
        files = {code.co_filename for code in (*raising[-1:], *deciding[:1])}
        of_library = len(files) == 1 and is_library(*files)
        return Decision(line=line, answer=answer) if near or of_library else None


def is_said() -> bool:
    """Return whether the code that uses a number only prints or logs it."""
    frame = _asking()
    return frame is not None and frame.f_code.co_filename.endswith(_SAYING)


def _asking() -> FrameType | None:
    """Return the innermost frame outside the code that tracks numbers."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.endswith(_INSIDE):
        frame = frame.f_back
    return frame


def _callers(frame: FrameType | None) -> list[CodeType]:
    """Return the code objects of a frame and of its next two callers."""
    codes: list[CodeType] = []
    while frame is not None and len(codes) < _NEAR:
        codes.append(frame.f_code)
        frame = frame.f_back
    return codes


def _functions(trace: TracebackType | None) -> list[CodeType]:
    """Return the code objects in a traceback, without the code that tracks numbers."""
    functions = []
    while trace is not None:
        functions.append(trace.tb_frame.f_code)
        trace = trace.tb_next
    return [code for code in functions if not code.co_filename.endswith(_INSIDE)]
