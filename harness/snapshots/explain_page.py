"""A recording or a message explained as one self-contained page."""

from collections.abc import Iterable, Sequence
from html import escape

from harness.plots.category_colours import LEVELS
from harness.plots.memory_page import ShownBlock, Timeline, memory_page
from harness.plots.self_contained_page import html_table
from harness.schema.units import format_bytes
from harness.snapshots.explain import Explanation
from harness.snapshots.explain_text import blocks_text, explanation_text, outcomes
from harness.snapshots.log_failures import LogFailure, explained
from harness.snapshots.moments import RecordedMoment
from harness.snapshots.oom_message import OutOfMemoryMessage
from harness.snapshots.oom_text import facts, headline, parts


def explanation_page(explanations: Sequence[Explanation]) -> str:
    """Return the page of all devices; the pictures are those of the first, which failed."""
    first, *others = explanations
    return memory_page(
        "Memory snapshot explained",
        verdict=[f"Device {first.device}: {first.diagnosis}", *first.sentences],
        timeline=None if first.blocks is None else first.blocks(),
        commands=_commands(first),
        body=_device(first) + "".join(_other(each) for each in others),
    )


def _commands(explanation: Explanation) -> list[str]:
    """Return settings with which the recorded work fits, or a command that finds other changes."""
    if explanation.failure is None:
        return []
    total = explanation.failure.usable_bytes
    fitting = [
        f"PYTORCH_ALLOC_CONF={case.name} python YOUR_SCRIPT.py"
        for case in explanation.what_ifs
        if ":" in case.name and case.verdict == "fits" and case.total_bytes == total
    ]
    return fitting[:2] or ["harness plan FILE.py:NETWORK --input SHAPE --batch N --gpu NAME"]


def failures_page(failures: Sequence[LogFailure], text: str) -> str:
    """Return the page of a log: its failures, and the GPU's memory at the last failure."""
    last = next((one.message for one in explained(failures) if one.message is not None), None)
    body = "".join(map(_failure, explained(failures)))
    return memory_page(
        "Out of memory explained",
        verdict=[] if last is None else [headline(last)],
        timeline=None if last is None else _held(last),
        body=body + _as_text(text),
    )


def _failure(failure: LogFailure) -> str:
    frame = (
        "" if failure.frame is None else f"<p>Failed at <code>{escape(failure.frame)}</code></p>"
    )
    return (
        f"<h2>Cause: {escape(failure.cause)}</h2><p>{escape(failure.advice)}</p>"
        f'{frame}<p class="quiet">In the log: {escape(facts(failure))}.</p>'
    )


def _held(message: OutOfMemoryMessage) -> Timeline:
    """Return the parts of the GPU's memory at one moment."""
    held = [(name, size) for _, name, size in parts(message)]
    return Timeline(
        blocks=[(ShownBlock(0, 1, size, name, name, ""), 1) for name, size in held],
        events=range(1),
        colours={name: LEVELS[at % len(LEVELS)] for at, (name, _) in enumerate(held)},
        heading="The GPU's memory at the failure",
    )


def _other(explanation: Explanation) -> str:
    sentences = " ".join(explanation.sentences)
    head = f"<h2>Device {explanation.device}: {escape(explanation.diagnosis)}</h2>"
    return f"{head}<p>{escape(sentences)}</p>{_device(explanation)}"


def _device(explanation: Explanation) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td>"
        f'<td class="{"bad" if is_bad else "good"}">{escape(words)}</td></tr>'
        for names, words, is_bad in outcomes(explanation)
        for name in names
    )
    notes = "".join(f'<p class="quiet">Note: {escape(note)}.</p>' for note in explanation.notes)
    first, *others = explanation.moments
    moments = _moment(first)
    for other in others:  # the peak: left out where the failure has the same blocks
        if other.categories != first.categories:
            name = f"Alive {escape(other.name)}, in other amounts"
            moments += f"<details><summary>{name}</summary>{_moment(other)}</details>"
    text = _as_text(explanation_text(explanation))
    what_if = f"<h2>What if</h2><table>{rows}</table>" if rows else ""
    return f"{what_if}{notes}{moments}{text}"


def _moment(moment: RecordedMoment) -> str:
    blocks = ((blocks_text(group), group.size_bytes) for group in moment.groups)
    return (
        f"<h3>Alive {escape(moment.name)}: {format_bytes(moment.alive_bytes)} of "
        f"{format_bytes(moment.reserved_bytes)} reserved</h3>"
        + _groups("By category", moment.categories)
        + _groups("By module", moment.modules)
        + _groups("By line, all blocks that are alike together", blocks)
    )


def _groups(caption: str, groups: Iterable[tuple[str, int]]) -> str:
    rows = ((format_bytes(size), name) for name, size in groups)
    return html_table(caption, (">size", "alive"), rows)


def _as_text(text: str) -> str:
    return f"<details><summary>Everything as text</summary><pre>{escape(text)}</pre></details>"
