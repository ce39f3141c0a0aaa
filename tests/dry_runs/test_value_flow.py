"""A value that a script reads decides something, or the source shows that it does not."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.dry_runs import value_reads
from harness.dry_runs.value_flow import avoids_error, decides, stack_of

pytestmark = pytest.mark.quick


class Tensor:
    """Asks what the dry run asks, when it is read."""

    def __init__(self) -> None:
        self.decides: list[bool] = []
        self.passes: list[bool | None] = []

    def _read(self, value: Any) -> Any:
        stack = stack_of(sys._getframe(2))
        self.decides.append(decides(stack, fraction=isinstance(value, float)))
        self.passes.append(avoids_error(stack))
        return value

    def item(self) -> float:
        return float(self._read(3.0))

    def add_(self, *_: object, **__: object) -> None:
        pass

    lerp_ = mul_ = add_

    def tolist(self) -> list[int]:
        return list(self._read([3, 4]))

    def __int__(self) -> int:
        return int(self._read(3))

    def __bool__(self) -> bool:
        return bool(self._read(True))

    def __iter__(self) -> Iterator[int]:
        return iter(self._read([3]))


def read(tmp_path: Path, source: str) -> Tensor:
    file = tmp_path / "source.py"
    file.write_text(source)
    tensor = Tensor()
    exec(compile(source, str(file), "exec"), {"t": tensor, "print": lambda *_: None})
    return tensor


@pytest.mark.parametrize(
    "source",
    [
        "print(f'{t.item():.3f}', round(t.item(), 2))",
        "losses = []\nlosses.append(t.item())\nprint(sum(losses) / len(losses))",
        "loss = 0.0\nloss += t.item() * 8\nprint('loss', loss / 10)",
        "def mean(x): return x.item()\nlog = {'loss': mean(t)}\nprint({**log})",
        (
            "class Meter:\n    total = 0.0\n    def update(self, x, n=1): self.total += x * n\n"
            "m = Meter()\nm.update(t.item(), n=2)\nprint(m.total)"
        ),
        "def log(x, step): print(step, x)\nlog(t.item(), 3)",
        "a, b = t.tolist()\nprint(a + b)",
        "print([x + 1 for x in t.tolist()])",
        "x = t.item()\nif x is not None: print(x)",
        "x = t.item()\nt.add_(t, alpha=-x / 2); t.lerp_(t, x)",
        "x = max(1.0, t.item() / 3)\ny = 2 / x\nt.mul_(-y / max(t.item(), 2))",
    ],
)
def test_what_is_only_told_decides_nothing(tmp_path: Path, source: str) -> None:
    assert set(read(tmp_path, source).decides) == {False}


@pytest.mark.parametrize(
    "source",
    [
        "if t.item() > 2: pass",
        "x = t.item()\nwhile x > 9: pass",
        "n = int(t.item())",
        "n = int(t)",
        "print(t.item() // 2)",
        "def value(x): return x.item()\nn = int(value(t))",
        "best = []\nbest.append(t.item())\nif max(best) > 5: pass",
        "class S: pass\ns = S()\ns.n = t.item()\nrange(int(s.n))",
        (
            "import threading\nr = []\nthreading.Thread(target=lambda: r.append(t.item())).run()\n"
            "range(int(r[0]))"
        ),
        "print(len(set(t.tolist())))",
        "print([x for x in t.tolist() if x > 3])",
        "for x in t.tolist():\n    if x: pass",
        "print([0, 1, 2, 3][int(t.tolist()[0])])",
        "def log(x):\n    if x > 2: pass\nlog(t.item())",
        "import math\nprint(math.log(t.item()))",
        "print(1 / t.item())",
        "def f(x):\n    if x: x = max(1, x)\n    return 2 / x\nf(t.item())",
        "x = max(0, t.item())\n2 / x",
        "x = t.item()\ntotal = 3\ntotal /= x",
        "x = int(t)\nt.add_(x)",
        "n = '%d' % t.item()\neval(n)",
        "if t: pass",
        "import json\ndef dumps(x): print(json.dumps(x))\ndumps(t.item())",
        "x = not t",
        "print({1: 2}.get(t.item(), 3))",
        "import json\njson.dumps(t.item())",
    ],
)
def test_what_may_decide_something_is_told(tmp_path: Path, source: str) -> None:
    assert any(read(tmp_path, source).decides)


@pytest.mark.parametrize(
    ("source", "passes"),
    [
        ("assert t", True),
        ("if not t: raise ValueError", True),
        ("if t:\n    print(1)\nelse:\n    raise ValueError", True),
        ("try:\n    if t:\n        raise ValueError\nexcept ValueError: pass", False),
        ("if not (t and True):\n    print(3)\n    raise ValueError", True),
        ("def ok(x): return bool(x)\nif not ok(\n    t,\n):\n    raise ValueError", True),
        ("ok = bool(t)\nif not ok: raise ValueError", True),
        ("import sys\nif not t: sys.exit(1)", True),
        ("if t: print(3)", None),
        ("x = t.item()\nif x > 4: raise ValueError", None),
    ],
)
def test_a_guard_has_the_answer_that_raises_nothing(
    tmp_path: Path, source: str, passes: bool | None
) -> None:
    assert read(tmp_path, source).passes == [passes]


def test_source_that_cannot_be_understood_may_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> bool:
        raise RecursionError

    monkeypatch.setattr(value_reads, "decides", fails)
    monkeypatch.setattr(value_reads, "avoids_error", fails)
    reads = value_reads.ValueReads({})
    place = reads._place(b"aten::item")
    for size, kind in ((8, 4), (1, 11)):  # an integer, a truth value
        assert reads._unknown(place, size, kind, None) is None
    (read,) = reads.places()
    assert (read.integers, read.guards) == (2, 0)
