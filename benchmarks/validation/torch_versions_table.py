"""The table of the memory model's rules by version of PyTorch, made from what was found."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from harness.prediction.torch_rules import RULES, Rule, rule_of
from harness.prediction.versions import TorchVersion

HEAD = """# Rules of the memory model by version of PyTorch

`make test-versions` writes this file: each version in an environment of its own, as pip installs
it on Linux x86-64 without local configuration (CUDA builds, run without a GPU). *holds* means that
every measured event of the tiny workloads of `harness doctor --check-model` that exercise the rule
was the predicted one: same order, operator, module, category, size and block. `–` means that
another form of the rule is in force.
"""


def render(results: Sequence[dict[str, Any]]) -> str:
    """Return the page."""
    rules = _table(["rule", *(each["version"] for each in results)], _rule_rows(results))
    runs = _table(
        ["torch", "Python", "tests passed", "failed", "skipped", "drawn workloads", "seconds"],
        (
            [
                each["torch"],
                each["python"],
                str(each["passed"]),
                ", ".join(each["failed"]) or "0",
                str(each["skipped"]),
                f"{each['drawn']}, {_differences(each)}",
                str(each["test_seconds"]),
            ]
            for each in results
        ),
    )
    processors = "; ".join(dict.fromkeys(each["processor"] for each in results))
    return "\n".join(
        (
            HEAD,
            rules,
            "\n## Runs\n",
            "The tests compare events, saved tensors, module profiles and thresholds with",
            "measurement, and the allocation trace with PyTorch's MemTracker.",
            f"Processor: {processors}.\n",
            runs,
            "\n## Rules that changed\n",
            *_changes(),
            "\n## Every rule\n",
            _table(
                ["rule", "what PyTorch does", "source", "verified"],
                ([rule.label, rule.says, f"`{rule.source}`", rule.verified] for rule in RULES),
            ),
            "",
        )
    )


def _differences(result: dict[str, Any]) -> str:
    differs = any("test_trace_property" in name for name in result["failed"])
    return "with a difference" if differs else "none differs"


def _rule_rows(results: Sequence[dict[str, Any]]) -> Iterable[list[str]]:
    for rule in RULES:
        yield [f"`{rule.label}`", *(_cell(rule, each) for each in results)]


def _cell(rule: Rule, result: dict[str, Any]) -> str:
    if rule_of(rule.name, TorchVersion.parse(result["version"])) is not rule:
        return "–"
    found = str(result["rules"].get(rule.label, "not checked"))
    return next(word for word in ("holds", "differs", "not checked") if found.startswith(word))


def _changes() -> Iterable[str]:
    for name, forms in groupby(RULES, key=lambda rule: rule.name):
        several = list(forms)
        if len(several) > 1:
            yield f"- `{name}`"
            yield from (f"  - since {rule.since}: {rule.says}" for rule in several)


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
