"""Recordings of real failures (PyTorch 2.15 under the dry run) are diagnosed and re-run.

What a what-if should say is what really happened when ``benchmarks/validation/record_failures.py``,
which commit 0badf1f has last, ran again with that setting: the peak ``reserved`` to the byte, or
the request that failed. ``COMPLETED`` and ``FAILED`` hold what was seen.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import harness
from harness.plots.memory_page import sheet_page
from harness.plots.sheet import sheet_text
from harness.snapshots.device_history import device_histories
from harness.snapshots.diagnosis import cause_of
from harness.snapshots.explain import Explanation, explain_file
from harness.snapshots.explain_sheet import explanation_sheet, failures_sheet
from harness.snapshots.failed_request import FailedRequest, find_failure
from harness.snapshots.file_bytes import Deadline
from harness.snapshots.log_failures import find_failures
from harness.snapshots.log_text import Log
from harness.snapshots.oom_message import parse_message
from harness.snapshots.snapshot import read_recording
from harness.snapshots.what_if import WhatIf, as_recorded, find_work, what_ifs
from tests.commands import Ask
from tests.known import known
from tests.snapshots.test_oom_message import EVERYTHING
from tests.snapshots.test_replay import MIB, by_hand, entry, segment, written

FAILURES = Path(__file__).parent / "failures"


def said(explanation: Explanation) -> str:
    return sheet_text(explanation_sheet((explanation,)))


def explained(name: str, **more: object) -> Explanation:
    (explanation,) = explain_file(FAILURES / f"{name}.pickle.gz", **more)  # type: ignore[arg-type]
    return explanation


def case(explanation: Explanation, name: str) -> WhatIf:
    return next(each for each in explanation.what_ifs if each.name == name)


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize(
    ("name", "diagnosis", "growth"),
    [
        ("leak", "leak", "leak"), ("fragmentation", "fragmentation", "unknown"),
        ("first-step", "first optimizer step", "unknown"), ("batch-8192", "real need", "unknown"),
        ("plateau", "no failure", "plateau"), ("batch-1024", "no failure", "unknown"),
    ],
)  # fmt: skip
def test_each_failure_is_diagnosed_and_its_groups_add_up_to_what_was_alive(
    name: str, diagnosis: str, growth: str
) -> None:
    explanation = explained(name)
    assert (explanation.diagnosis, explanation.growth.kind) == (diagnosis, growth)
    text = said(explanation)
    assert text.startswith(f"device 0: {diagnosis}\n")
    assert len(text.splitlines()) <= 32, "more than a screen"
    for moment in explanation.moments:
        for groups in (moment.categories, moment.frames):
            assert sum(size for _, size in groups) == moment.alive_bytes
        assert len(moment.groups) < 12
        assert sum(group.size_bytes for group in moment.groups) == moment.alive_bytes


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize("name", ["batch-8192", "first-step", "fragmentation"])
def test_a_request_fits_with_as_little_alive_as_the_explanation_says(name: str) -> None:
    (history,) = device_histories(read_recording(FAILURES / f"{name}.pickle.gz"))
    failure = known(find_failure(history))
    assert failure.fitting_bytes < failure.alive_bytes, "so much was alive when it failed"
    work = find_work(history, failure.position + 1)
    left, alive = set(), failure.alive_bytes
    begins = history.alive_after(failure.position)
    for begin in sorted(begins, key=lambda begin: -history.log[begin].size_bytes):
        if alive > failure.fitting_bytes:
            left.add(begin - len(history.origin.live))
            alive -= history.log[begin].size_bytes
    steps = tuple(step for step in work.steps if step.position not in left)
    shorter = as_recorded(history, failure.usable_bytes, replace(work, steps=steps))
    for case, fits in ((as_recorded(history, failure.usable_bytes, work), False), (shorter, True)):
        ((answer,), _) = what_ifs([case], Deadline())
        assert (answer.verdict == "fits") == fits


@pytest.mark.parametrize(
    ("left_mib", "cause"),
    [(16, "real need"), (46, "full"), (600, "fragmentation"), (1_100, "fragmentation")],
)
def test_a_log_and_a_snapshot_of_one_failure_have_one_diagnosis(left_mib: int, cause: str) -> None:
    failure = FailedRequest(
        position=0, requested_bytes=32 * MIB, segment_bytes=32 * MIB, reserved_bytes=16_380 * MIB,
        alive_bytes=(16_384 - left_mib) * MIB, device_free_bytes=4 * MIB,
        usable_bytes=16_384 * MIB, is_limited=False, frames=(),
    )  # fmt: skip
    message = parse_message(
        "CUDA out of memory. Tried to allocate 32.00 MiB. GPU 0 has a total capacity of 16.30 GiB "
        f"of which 4.00 MiB is free. Of the allocated memory {16_384 - left_mib}.00 MiB is "
        f"allocated by PyTorch, and {left_mib - 4}.00 MiB is reserved by PyTorch but unallocated."
    )
    assert message.cause() == cause_of(failure, ()) == cause


@pytest.mark.usefixtures("cuda_build")
def test_equal_blocks_of_one_line_are_one_row_with_the_users_line() -> None:
    text = said(explained("batch-8192"))
    forward = "forward pass (activations and its temporaries)"
    row = f"128 MiB  4 x 32 MiB, {forward}: relu (functional.py:1777) < train (rec"
    assert text.count(row) == 1
    assert text.count("at the failure (event") == 1
    assert "at the peak (event" not in text  # the same blocks
    assert "as recorded, expandable_segments:True, max_split_size_mb:64" in text


def test_a_real_need_says_what_would_have_to_go() -> None:
    *_, advice = explained("batch-8192").sentences
    # 300 MiB for PyTorch, 32 of them for the request, and 6 in gaps between blocks.
    assert advice == (
        "It fits if at most 262 MiB are alive before it. Reduce the batch size, or checkpoint "
        "what train (record_failures.py:47) calls (128 MiB of activations); harness plan compares "
        "such changes."
    )


def test_a_recording_without_stacks_does_not_name_what_it_does_not_know() -> None:
    (explanation,) = explain_file(FAILURES.parent / "recordings" / "resnet18-start.pickle.gz")
    held = dict(explanation.moments[-1].categories)
    assert "other (inputs, outputs, temporaries)" not in held
    assert held["unknown: recorded without Python stacks"] > 200 * MIB
    assert held["optimizer state and its temporaries"] > 80 * MIB


@pytest.mark.usefixtures("cuda_build")
def test_a_limit_of_the_process_is_the_memory_of_the_what_ifs() -> None:
    """Recorded on 3 GiB under ``set_per_process_memory_fraction(0.5)``, which no setting states."""
    path = FAILURES.parent / "recordings" / "random-max-split-two-streams.pickle.gz"
    (explanation,) = explain_file(path)
    failure = known(explanation.failure)
    assert failure.device_free_bytes > failure.segment_bytes
    assert (failure.is_limited, failure.usable_bytes) == (True, 3 << 29)
    assert case(explanation, "as recorded").verdict == "does not fit"
    assert "the GPU had room, so a limit of the process refused" in said(explanation)


def test_a_leak_is_what_one_step_keeps() -> None:
    growth = explained("leak").growth
    # Batch 512 x width 1,024 x 4 bytes: the input and four outputs of ReLU.
    assert growth.per_step_bytes == 5 * 512 * 1024 * 4
    assert growth.places[0][0].startswith("train (record_failures.py:")


def test_the_first_step_leaves_parameters_gradients_and_state_of_adam() -> None:
    explanation = explained("plateau")
    parameters = 4 * (1024 * 1024 + 1024) * 4
    held = dict(explanation.moments[0].categories)
    assert held["parameters"] == parameters
    assert held["optimizer state and its temporaries"] == 2 * parameters
    assert explanation.growth.per_step_bytes == 0


def test_the_failure_is_the_one_of_the_message() -> None:
    failure = known(explained("first-step").failure)
    # "Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 76.00 MiB of which 14.00 MiB is
    # free. Of the allocated memory 60.31 MiB is allocated by PyTorch, and 1.69 MiB is reserved".
    assert (failure.segment_bytes, failure.device_free_bytes) == (20 * MIB, 14 * MIB)
    assert (failure.usable_bytes, failure.reserved_bytes) == (76 * MIB, 62 * MIB)
    assert failure.frames[0].startswith("_init_group (adam.py:")


# Settings tried in the real run, with the peak that it reserved; None if it failed again.
COMPLETED: dict[str, dict[str, int | None]] = {
    "fragmentation": {
        "expandable_segments:True": 629_145_600, "max_split_size_mb:40": 675_282_944,
        "with 1 GiB": 964_689_920,
    },
    "leak": {"with 250 MiB": 169_869_312},
    # With large segments the real run failed later: this is its peak up to the same request.
    "first-step": {"large_segment_size_mb:64": 71_303_168, "with 100 MiB": 88_080_384},
    "batch-8192": {"with 400 MiB": None},
}  # fmt: skip
FAILED = {
    "fragmentation": [
        "max_split_size_mb:64", "roundup_power2_divisions:8", "large_segment_size_mb:64",
    ],
    "leak": [
        "expandable_segments:True", "max_split_size_mb:64", "roundup_power2_divisions:8",
        "empty_cache() in each step",
    ],
    "first-step": ["expandable_segments:True", "empty_cache() in each step"],
    "batch-8192": ["expandable_segments:True"],
}  # fmt: skip


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize("name", COMPLETED)
def test_what_ifs_say_what_really_happened(name: str) -> None:
    gpus = {"with 1 GiB": 1 << 30} | {f"with {size} MiB": size * MIB for size in (100, 250, 400)}
    explanation = explained(name, gpus=gpus, settings="max_split_size_mb:40")
    for what in ("as recorded", *FAILED[name]):
        assert case(explanation, what).verdict == "does not fit", what
    for what, reserved in COMPLETED[name].items():
        assert case(explanation, what).verdict == "fits", what
        if reserved is not None:
            assert case(explanation, what).peak_reserved_bytes == (reserved, reserved)


RECORDED = sorted((*FAILURES.iterdir(), *(FAILURES.parent / "recordings").iterdir()))


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name.partition(".")[0])
def test_as_recorded_has_the_recordings_own_peak_or_says_why_not(path: Path) -> None:
    for explanation in explain_file(path):
        as_recorded = case(explanation, "as recorded").peak_reserved_bytes
        if as_recorded is not None:  # it completed
            low, high = as_recorded
            own = f"the recording's own peak reserved is {explanation.peak_reserved_bytes} bytes, "
            is_other = not low <= explanation.peak_reserved_bytes <= high
            assert any(note.startswith(own) for note in explanation.notes) == is_other


@pytest.mark.usefixtures("cuda_build")
def test_the_page_is_self_contained_and_labelled() -> None:
    page = sheet_page(explanation_sheet((explained("leak"),)))
    body, _, scripts = page.partition("</main>")
    assert re.findall(r"<(?:script|img|iframe)|https?:|onload", body) == []
    assert scripts.count("<script") == 2, "the data, and the script whose hash the policy has"
    assert set(re.findall(r'(?:src|href)="([^"]*)"', page)) <= {"data:,"}  # an empty icon
    assert "prefers-color-scheme: dark" in page
    forward = "forward pass (activations and its temporaries)"
    words = ("all that PyTorch may reserve", forward, "out of memory")
    for text in (*words, "what if", "by category", "by line", "by module"):
        assert text in page


def test_text_from_a_recording_is_escaped_in_the_page(tmp_path: Path) -> None:
    raw = by_hand()
    for event in raw["device_traces"][0]:
        event["frames"] = [{"filename": "<b>.py", "name": "<script>alert(1)</script>", "line": 1}]
    page = sheet_page(explanation_sheet(explain_file(written(tmp_path, raw))))
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert r"\u003cscript>alert" in page


def test_the_page_of_a_message_names_every_part() -> None:
    page = sheet_page(failures_sheet(find_failures(Log(text=EVERYTHING))))
    assert "process 11: 1 GiB" in page
    assert "allocated by tensors: 3.5 GiB" in page
    assert "free in private pools (CUDA graphs, MemPool): 512 MiB" in page


@pytest.mark.parametrize(
    ("source", "mark"),
    [
        (FAILURES / "fragmentation.pickle.gz", "usable memory"),
        (EVERYTHING, "memory of the GPU"),
    ],
)
def test_the_picture_names_what_held_the_memory_and_its_limit(
    source: Path | str, mark: str
) -> None:
    report = harness.explain(source)
    (axes,) = report.plot().axes
    assert [text.get_text() for text in axes.get_yticklabels()] == [name for name, _ in report.held]
    assert mark in [text.get_text() for text in axes.texts]
    assert sum(size for _, size in report.held) <= report.limit[0]


@pytest.mark.usefixtures("cuda_build")
def test_the_command_explains_a_snapshot(ask: Ask, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    path = str(FAILURES / "first-step.pickle.gz")
    data = json.loads(ask(["explain", path, "--json", "--html", str(page), "--gpu", "l4"]).out)
    assert data["diagnosis"] == "first optimizer step"
    assert [each["verdict"] for each in data["what_ifs"] if each["name"] == "on l4"] == ["fits"]
    assert page.read_text().startswith("<!doctype html>")


def test_the_device_that_failed_comes_first(ask: Ask, tmp_path: Path) -> None:
    raw = by_hand()
    raw["device_traces"].append(
        [
            entry("segment_alloc", 9, 12 * MIB), entry("alloc", 9, 12 * MIB),
            {"action": "oom", "device_free": 5 * MIB, "size": 30 * MIB, "stream": 0},
        ]
    )  # fmt: skip
    raw["segments"].append({**segment(9, 12 * MIB), "device": 1})
    path = written(tmp_path, raw)
    first, second = explain_file(path)
    assert "devices in the recording: 0 (9 events), 1 (3 events)" in first.notes
    assert (first.device, second.device) == (1, 0)
    assert known(first.failure).usable_bytes == 17 * MIB
    out = ask(["explain", str(path)]).out
    assert out.startswith("device 1: ")
    assert "devices in the recording: 0 (9 events), 1 (3 events)" in out
    assert ask(["explain", str(path), "--device", "0"]).out.startswith("device 0: ")
    assert "no device 2, only 0, 1" in ask(["explain", str(path), "--device", "2"], 2).err


@pytest.mark.parametrize(
    "change",
    [
        {"frames": [{"filename": "a.py", "name": "f", "line": 2**64 - 1}]},
        {"frames": [{"filename": 3, "name": [], "line": None}, 7, {}]}, {"frames": "none"},
        {"time_us": -1}, {"time_us": "late"}, {"stream": 2**63 + 5},
        {"compile_context": 7, "user_metadata": {"a": [1]}},
    ],
)  # fmt: skip
def test_a_field_that_no_number_needs_refuses_nothing(
    tmp_path: Path, change: dict[str, object]
) -> None:
    raw = by_hand()
    for event in raw["device_traces"][0]:
        event |= change
    for each in raw["segments"]:
        each["stream"] = change.get("stream", 0)
        each["frames"] = change.get("frames", [])
    assert said(explain_file(written(tmp_path, raw))[0])
    raw |= {"host_segments": [{"total_size": 3 * MIB}], "external_annotations": [{"stage": 1}]}
    assert explain_file(written(tmp_path, raw))[0].peak_reserved_bytes == 36 * MIB


def test_an_empty_recording_is_explained_as_one_without_failure(tmp_path: Path) -> None:
    (explanation,) = explain_file(written(tmp_path, {"segments": [], "device_traces": [[]]}))
    assert explanation.diagnosis == "no failure"
    assert "Nothing was allocated" in sheet_page(explanation_sheet((explanation,)))


AT = by_hand()["device_traces"][0][1]["addr"]


@pytest.mark.parametrize(
    ("owners", "held"),
    [
        ({AT: "gradient"}, "gradients"),
        ({AT: ["gradient"]}, "other (inputs, outputs, temporaries)"),  # no name of a category
        (["gradient"], "forward pass (activations and its temporaries)"),  # no dict: a guess
    ],
)
def test_owners_in_a_recording_are_believed_if_they_are_owners(
    tmp_path: Path, owners: object, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.snapshots.explain._cases", lambda *_: [])
    raw = by_hand()
    raw["device_traces"] = [raw["device_traces"][0][:2]]
    raw["segments"] = raw["segments"][:1]
    marks = [{"allocations": 1, "owners": owners}]
    raw["harness"] = [{"allocations": 1, "workspace_bytes": None, "marks": marks}]
    (explanation,) = explain_file(written(tmp_path, raw))
    assert explanation.moments[0].categories[0][0] == held
