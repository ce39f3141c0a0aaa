"""The glossary holds: no text of the project uses a word that it replaces, in that sense."""

import ast
import functools
import re
import sys
from pathlib import Path

import pytest

from tests.child_process import run

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).relative_to(ROOT).as_posix()

REPLACED = {
    r"\bfault of ours\b": "internal error",
    r"\bgiv(?:e|es|en|ing) back\b|\bgave back\b": "free",
    r"\bhand(?:s|ed|ing)? out\b": "allocate",
    r"\blinear maps?\b": "linear layer",
    r"\bnetworks? by hand\b": "from-scratch model",
    r"\b(?:matrix|bfloat16|float16|float32) products?\b": "matmul",
    r"\b(?:the|a|this|which|every|no|each|one|that) cards?\b": "GPU",
    r"\bresident rise\b": "RSS rise",
    r"\bbesides?\b": "next to, in addition to",
    r"\bon trial\b": "tested",
    r"\bso many\b": "that many, or the number",
    r"\bfigure by figure\b|\b(?:byte|measured|predicted|exact|noisy) figures?\b": "metric",
    r"\bfigures? of (?:a|the) (?:record|step|trace|measurement|prediction)\b": "metric",
    r"\bfore(?:cast|cast(?:s|ed|ing)|told|tell|tells)\b": "prediction, predict",
    r"\brulings?\b|\bexhibits?\b|\brules? on\b": "verdict, judge",
    r"\b(?:the executor|sweep|local|dask)'?s? engine\b|\bwith_engine\b": "executor",
    r"\btold apart\b|\bis told\b|\bare told\b|\btells? \w+ apart\b": "distinguish",
    r"(?<=[\"\'])Tell whether|\bcannot tell (?:them|these|those)\b": "Return whether, distinguish",
    r"\b(?:give|take|hand)_(?:back|out)\b|\bgive (?:a|the|one|each|such) \w+ back\b": "free",
    r"\bblocks? (?:that )?(?:was|were|are|is) (?:taken|returned)\b": "allocate, free",
    r"\b(?:takes?|took) (?:a|one|no|each|every|the) (?:block|segment)s?\b": "allocate",
    r"\bkernels? (?:that )?(?:is|are|was|were) (?:not )?followed\b|\bis_followed\b": "predict",
    r"\b(?:in|on|by) prediction mode\b|\bprediction \(no|\btraining (?:and|against|vs) predic"
    r"tion\b": "inference",
    r"\bcard_(?:of|bytes)\b|\b(?:on|whole)_card\b|\b\d+ GiB cards?\b": "GPU",
    r"\bresident (?:limit|budget|segment)\b|\blimit on resident\b": "data segment",
    r"\b\d+ % (?:interval|of|more|above|than)\b|g\} % ": "95%, without a space",
    r"\bnormalisation\b": "normalization, as PyTorch writes it",
}


@functools.cache
def texts() -> list[tuple[str, str]]:
    listed = run("git", "ls-files", "*.py", "*.md", "*.j2", "Makefile", ".ci", cwd=ROOT)
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = [name for name in listed.stdout.split() if not name.startswith("results/")]
    return [(name, (ROOT / name).read_text(encoding="utf-8")) for name in names if name != HERE]


@pytest.mark.parametrize("pattern", REPLACED)
def test_no_text_uses_a_word_that_the_glossary_replaces(pattern: str) -> None:
    spaced = re.compile(pattern.replace(" ", r"\s+(?:# )?"), re.IGNORECASE)  # also over a line end
    result = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for name, text in texts()
        for match in spaced.finditer(text)
    ]
    assert result == [], f"write {REPLACED[pattern]!r}"


DESCRIBED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def test_every_docstring_names_its_subject_first() -> None:
    """No docstring begins as a question does; the group of commands asks the project's."""
    seen, wrong = 0, []
    for name, text in texts():
        for node in ast.walk(ast.parse(text)) if name.endswith(".py") else ():
            docstring = ast.get_docstring(node) if isinstance(node, DESCRIBED) else None
            seen += docstring is not None
            first = (docstring or "").partition(" ")[0]
            is_app = name == "harness/cli/app.py" and getattr(node, "name", "") == "app"
            if first in ("What", "Whether", "How", "Where") and not is_app:
                wrong.append(f"{name}:{getattr(node, 'lineno', 1)}: {docstring}")
    assert seen > 1000
    assert wrong == []


def test_every_defect_of_a_first_use_names_a_test_that_is_there() -> None:
    table = (ROOT / "tests" / "first_use.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if re.match(r"\| [A-C]\d", line)]
    assert len(rows) > 25
    for row in rows:
        named = re.findall(r"`(\w+/\w+\.py)`", row)
        assert named or "by eye" in row or "doctest" in row, row
        assert all((ROOT / "tests" / name).is_file() for name in named), row


def test_the_check_of_the_prose_finds_its_three_habits(tmp_path: Path) -> None:
    planted = (
        '"""Of a file the size."""\nVALUE = "a fault is no answer"\ndef f(): "It is no set."\n'
    )
    (tmp_path / "a.py").write_text(planted)
    (tmp_path / "b.md").write_text("It is larger than the\none before. There is no other.\n")
    run("git", "init", "-q", cwd=tmp_path)
    run("git", "add", ".", cwd=tmp_path)
    done = run(sys.executable, ROOT / ".ci" / "prose.py", cwd=tmp_path)
    found = [line.split(":")[:2] for line in done.stdout.splitlines()]
    assert (done.returncode, found) == (1, [["a.py", "1"], ["a.py", "3"], ["b.md", "1"]])
