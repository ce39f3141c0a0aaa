"""Recordings of ``torch.compile`` on two streams, of Windows and of pinned host memory.

``compiled`` is a recording of ``benchmarks/validation/record_compiled.py``, which commit 0badf1f
has last (PyTorch 2.15 under the dry run). Those of Windows and of inductor are CONSTRUCTED from
real recordings: only the names of files and functions change; the pinned segments are constructed
too.
"""

import gzip
import pickle
from pathlib import Path
from typing import Any

import pytest

from harness.snapshots.explain import Explanation, explain_file
from tests.snapshots.replays import replay_devices
from tests.snapshots.test_explain import FAILURES
from tests.snapshots.test_replay import entry, recording, segment, written

MIB = 1 << 20
BATCH, WIDTH = 1024, 2048


def loaded(path: Path) -> dict[str, Any]:
    raw: dict[str, Any] = pickle.loads(gzip.decompress(path.read_bytes()))
    return raw


@pytest.mark.usefixtures("cuda_build")
def test_a_compiled_model_is_followed_and_its_activations_are_named(tmp_path: Path) -> None:
    path = recording("compiled")
    (explanation,) = explain_file(path)
    held = dict(explanation.moments[0].categories)
    parameters = (512 * WIDTH + WIDTH + WIDTH * 10 + 10) * 4
    assert held["parameters"] == parameters
    assert held["optimizer state and its temporaries"] == 2 * parameters
    # GELU's input, and its output, which the second linear layer saves.
    assert held["forward pass (activations and its temporaries)"] == 2 * BATCH * WIDTH * 4
    assert held["backward pass (gradients and temporaries)"] > BATCH * WIDTH * 4
    assert dict(explanation.moments[0].modules)["compiled graph"] == 2 * BATCH * WIDTH * 4
    assert explanation.growth.kind == "plateau"
    assert explanation.what_ifs[0].name == "as recorded"
    peak = explanation.peak_reserved_bytes
    assert explanation.what_ifs[0].peak_reserved_bytes == (peak, peak)


@pytest.mark.usefixtures("cuda_build")
def test_pinned_host_memory_is_named_and_not_counted(tmp_path: Path) -> None:
    raw = loaded(recording("compiled"))
    assert raw["host_segments"] == []  # the dry run records none: these are constructed
    raw["host_segments"] = [{"address": 1 << 40, "total_size": size * MIB} for size in (2, 3)]
    replay = replay_devices(written(tmp_path, raw))[0]
    assert "5 MiB of pinned host memory: this is not GPU memory" in replay.notes
    assert replay.recorded_peak_reserved_bytes == 82 * MIB


@pytest.mark.usefixtures("cuda_build")
def test_labels_and_pinned_events_of_newer_versions_are_read(tmp_path: Path) -> None:
    """Recorded by PyTorch 2.15: ``_set_memory_metadata``, ``_annotate_tensor``, pinned memory."""
    raw = loaded(recording("annotated"))
    raw["device_traces"][0].insert(3, {"action": "of_tomorrow", "addr": 1, "size": 1})
    raw["host_traces"].append({"action": "segment_free", "addr": 1, "size": 3 * MIB})
    (explanation,) = explain_file(written(tmp_path, raw))
    lines = {group.line.partition(", labelled ")[2] for group in explanation.moments[0].groups}
    assert '"batch of the loader"' in lines
    assert '"{"kind":"dict","n":1}; kept for the backward pass; second note"' in lines
    assert "1 entries of the unknown action 'of_tomorrow' are left out" in explanation.notes
    pinned = "20 MiB of pinned host memory, 23 MiB at its peak: this is not GPU memory"
    assert pinned in explanation.notes
    assert explanation.what_ifs[0].peak_reserved_bytes == (explanation.peak_reserved_bytes,) * 2


def both(folder: Path, path: Path, change: Any) -> tuple[Explanation, Explanation]:
    """Explain a recording as it is, and with other files and functions in its frames."""
    raw = loaded(path)
    events = raw["device_traces"][0]
    # PyTorch shares frames among events, so each is changed once.
    frames = {id(frame): frame for event in events for frame in event.get("frames", ())}.values()
    before = [(frame["filename"], frame["name"]) for frame in frames]
    after = [change(*names) for names in before]
    assert after != before
    for frame, names in zip(frames, after, strict=True):
        frame["filename"], frame["name"] = names
    (here,), (there,) = explain_file(path), explain_file(written(folder, raw))
    return here, there


def on_windows(file: str, name: str) -> tuple[str, str]:
    if "site-packages" in file:
        inside = file[file.index("site-packages") :].replace("/", "\\")
        return f"C:\\Users\\me\\miniconda3\\envs\\ai\\Lib\\{inside}", name
    if "lib/python3" in file:
        return f"C:\\Users\\me\\miniconda3\\envs\\ai\\Lib\\{file.rsplit('/', 1)[-1]}", name
    return f"D:\\work\\project\\{file.rsplit('/', 1)[-1]}" if ".py" in file else file, name


@pytest.mark.parametrize("name", ["leak", "first-step", "batch-8192"])
def test_a_recording_of_windows_says_the_same(tmp_path: Path, name: str) -> None:
    here, there = both(tmp_path, FAILURES / f"{name}.pickle.gz", on_windows)
    assert there == here


def by_an_optimizer_of_yours(file: str, name: str) -> tuple[str, str]:
    """Return where the state would be made by a subclass of Optimizer in the user's file."""
    if file.endswith("adam.py"):
        return "/home/me/optimizers.py", "make_state" if name == "_init_group" else name
    return file, name


@pytest.mark.parametrize("name", ["first-step", "plateau"])
def test_the_state_of_an_optimizer_of_your_own_is_named(tmp_path: Path, name: str) -> None:
    here, there = both(tmp_path, FAILURES / f"{name}.pickle.gz", by_an_optimizer_of_yours)
    assert there.diagnosis == here.diagnosis
    assert [m.categories for m in there.moments] == [m.categories for m in here.moments]


def by_inductor(file: str, name: str) -> tuple[str, str]:
    """Return where inductor's wrapper of a compiled graph would be in the place of the graph."""
    if "eval_with_key" in file:
        return "/tmp/torchinductor_me/ab/cabq4xkwqz.py", "call"
    return file, name


def test_code_that_inductor_wrote_is_not_your_code(tmp_path: Path) -> None:
    eager, inductor = both(tmp_path, recording("compiled"), by_inductor)
    here, there = eager.moments[0], inductor.moments[0]
    assert there.categories == here.categories
    assert there.alive_bytes == here.alive_bytes
    lines = [line for line, _ in there.frames]
    assert any(line.startswith("main (record_compiled.py:") for line in lines)
    assert not any(line.startswith("call (cabq4xkwqz.py") for line in lines)


NATIVE = [
    {"filename": "??", "name": "torch::unwind::unwind()", "line": 0},
    {"filename": "CUDACachingAllocator.cpp", "name": "malloc", "line": 0},
    {"filename": "", "name": "at::detail::empty_cuda", "line": 0},
] * 20


def test_frames_of_cpp_change_nothing_in_an_explanation(tmp_path: Path) -> None:
    path = FAILURES / "leak.pickle.gz"
    raw = loaded(path)
    for event in raw["device_traces"][0]:
        event["frames"] = [*NATIVE, *event.get("frames", ())]
    assert explain_file(written(tmp_path, raw)) == explain_file(path)


def test_the_layers_of_one_forward_pass_are_no_leak(tmp_path: Path) -> None:
    frames = [{"filename": "/home/me/model.py", "name": "forward", "line": 7}]
    trace = []
    for layer in range(9):
        trace += [entry("segment_alloc", layer, 12 * MIB), entry("alloc", layer, 12 * MIB)]
        trace[-1]["frames"] = frames
    raw = {"segments": [segment(layer, 12 * MIB) for layer in range(9)], "device_traces": [trace]}
    (explanation,) = explain_file(written(tmp_path, raw))
    assert explanation.growth.kind == "unknown"
    assert explanation.diagnosis == "no failure"
