"""Ten numbers in the comments of a script with two linear layers, from the code of CustomLOMO.

The script prints the allocated bytes after each statement, and runs unmodified here. Its comments
contain what it printed; the last line does not have a comment. These settings are by rule:

- torch 2.14, because PyTorch of July 2023 kept the workspaces of cuBLAS in the allocator, and 2.14
  is the newest version that keeps them;
- a pretended A100, the default of ``harness dry-run``, because the GPU is not named.

The rule and the numbers are from a review of 1 December 2026, which had run both installed versions
(2.14 and 2.15). So the answers were known when this file was committed.

The comment on the ninth number states two numbers. The first, 37132.5, is without the two lines
that remove the gradients; the second, 33032.5, is with them, as the script is. This file first read
the first number, and was corrected after the answer (33032.5) was seen.
"""

import functools
import re
from pathlib import Path

from benchmarks.witnesses.clones import text_of
from benchmarks.witnesses.printed import printed
from benchmarks.witnesses.rows import RefusedError, Row, Sizes, Source

SCRIPT = "test.py"
TORCH = "2.14"
KIB = 1 << 10
COMMENTS = (
    r"linear1 = .*\n.*4194304 +(\d+)KB",
    r"linear2 = .*\n.*4198400 +(\d+)KB",
    r"inputs = .*\n.*8392704 +(\d+)KB",
    r"\ny = .*\n.*#(\d+)KB",
    r"\nu = .*\n.*#(\d+)KB",
    r"\nloss = sum\(u\)\n.*#([\d.]+)KB",
    r"loss.backward\(\) # memory - 4194304 \+ .*\n.*#([\d.]+)KB",
    r"max_memory_allocated\(\)/\(1024\)\)  #(\d+)\n",
    r"loss = sum\(linear2\(linear1\(inputs\)\)\) # shape = .*\n.*set to zero => ([\d.]+) =",
    r"loss.backward\(\) # memory - 4194304\n.*#([\d.]+)KB",
)
"""Patterns of the comments in the order in which the script prints the numbers."""


def rows(clone: Path) -> list[Row]:
    """Return a row for each number."""
    return [
        Row(
            source=SOURCE.name,
            name=f"{number}. number",
            metric="allocated",
            measured_bytes=round(size * KIB),
            resolution_bytes=1,
            run=functools.partial(_sizes, clone, number),
            traits={"number": number},
            torch=TORCH,
        )
        for number, size in enumerate(commented(text_of(clone, SOURCE.commit, SCRIPT)), 1)
    ]


def commented(script: str) -> list[float]:
    """Return the numbers in the comments of the script, in KiB."""
    found = [re.search(pattern, script) for pattern in COMMENTS]
    if not all(found):
        raise RefusedError("the script has other comments")
    return [float(one[1]) for one in found if one]


def _sizes(clone: Path, number: int) -> Sizes:
    said = printed(clone, SOURCE.commit, SCRIPT, SOURCE.gpu, torch=TORCH)
    sizes = [line for line in said.splitlines() if re.fullmatch(r"\d+\.\d+", line)]
    return {"allocated": round(float(sizes[number - 1]) * KIB)}


SOURCE = Source(
    name="custom-lomo",
    repository="https://github.com/00drdelius/CustomLOMO",
    commit="88691be",
    paths=(SCRIPT,),
    licence="Apache-2.0",
    made="a GPU that is not named, torch of 2023: torch.cuda.memory_allocated after each statement",
    gpu="a100-40gb",
    rows=rows,
    scripts=True,
)
