"""``harness.plan``: each candidate is what ``harness.predict`` says of the changed step."""

import io
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

import msgspec
import pytest
import torch
from torch import nn

import harness
from harness.planning.changed_step import (
    LOADED,
    EightBitStates,
    adapt,
    blocks_of,
    checkpoint_blocks,
    keep_loaded,
    subject_of,
)
from harness.planning.plan_result import Plan
from harness.planning.plan_sheet import plan_sheet
from harness.planning.step_changes import StepChange, code_of
from harness.plots.sheet import ShownTable
from harness.prediction.gpu.catalogue import GPUS
from harness.schema.units import format_bytes
from harness.training.own_step import OwnStep
from tests.commands import Ask
from tests.known import known

BATCH = 8192
WIDTH = 256
DEPTH = 4
SEGMENT = 20 << 20
"""PyTorch reserves so much for blocks of 1 to 10 MiB."""
TIGHT = 120
"""MiB next to the most memory outside the allocator; the step needs about 500."""


def block() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))


def build() -> nn.Module:
    return nn.Sequential(*[block() for _ in range(DEPTH)], nn.Linear(WIDTH, 10))


def small(mebibytes: int) -> harness.Gpu:
    return replace(GPUS["l4"], total_bytes=(768 + mebibytes) << 20)


def planned(mebibytes: int, **request: object) -> Plan:
    result = harness.plan(build, BATCH, gpu=small(mebibytes), inputs=(WIDTH,), **request)  # type: ignore[arg-type]
    assert isinstance(result, Plan)
    return result


def test_a_step_that_fits_needs_no_change() -> None:
    result = planned(2000, optimizer="adam")
    assert [c.described() for c in result.candidates] == ["nothing"]
    assert result.as_asked.verdict == "fits"


@pytest.mark.slow
@pytest.mark.usefixtures("dry_run_here")
def test_a_plan_of_a_workload_needs_what_its_prediction_says() -> None:
    """The dry run of its network against the formula: two sources, the same bytes."""
    workload = harness.Workload(depth=3, width=1024, batch=8192, optimizer="adam", norm="layer")
    found = harness.plan(workload, gpu=small(150))
    fit = harness.predict(workload, gpu=small(150)).fit
    assert fit is not None
    assert found.as_asked.reserved_peak_bytes == fit.reserved_peak_bytes
    assert found.as_asked.verdict == "close call"
    assert found.candidates[0].fit.verdict == "fits"


@pytest.fixture(scope="module")
def tight() -> Plan:
    return planned(TIGHT, optimizer="adam")


@pytest.mark.usefixtures("cuda_build")
def test_every_candidate_fits_and_its_next_larger_micro_batch_does_not(tight: Plan) -> None:
    assert tight.as_asked.verdict != "fits"
    assert len(tight.candidates) > 2  # three where torch 2.15 frees workspaces, else five
    alike = (c for c in tight.candidates if c.change.optimizer not in ("sgd", "8-bit states"))
    times = [c.relative_time for c in alike if not c.change.adapters]
    assert times == sorted(times)
    for one in tight.candidates:
        assert one.fit.verdict == "fits"
        assert one.micro_batch * one.micro_batches == BATCH
        assert (one.neighbour is None) == (one.micro_batches == 1)
        assert one.neighbour is None or one.neighbour.verdict != "fits"
    assert tight.rejected[0].startswith(f"1 x {BATCH:,}: {tight.as_asked.verdict}, reserves ")
    fits = set()
    for one in tight.candidates:
        words = filter(None, (*one.change.described(), one.allocator_settings))
        fits.add(", ".join((f"{one.micro_batches} x {one.micro_batch:,}", *words)))
    assert not fits & {each.partition(": ")[0] for each in tight.rejected}
    first = next(c for c in tight.candidates if not c.change.described())
    step: dict[str, Any] = {"inputs": (WIDTH,), "optimizer": "adam", "gpu": small(TIGHT)}
    step |= {"accumulate": first.micro_batches, "allocator_settings": first.allocator_settings}
    again = harness.predict(build, BATCH, **step)
    assert again.fit == first.fit, "two micro-batches need what all of them need"


def test_a_candidate_that_reserves_more_than_there_is_room_for_is_tight(tight: Plan) -> None:
    one = tight.candidates[0]
    total = one.fit.reserved_peak_bytes[1]
    no_room = msgspec.structs.replace(one.fit, verdict="fits", total_bytes=total)
    plan = replace(tight, candidates=(replace(one, fit=no_room), one))
    (table,) = (each for each in plan_sheet(plan).parts if is_candidates(each))
    assert [row[2] for row in table.rows] == ["tight", "fits"]


def is_candidates(part: object) -> TypeGuard[ShownTable]:
    return isinstance(part, ShownTable) and part.heads[-1] == "change"


def test_checkpointing_saves_what_the_blocks_save() -> None:
    def peak(change: StepChange) -> int:
        prepare = partial(checkpoint_blocks, change=change)
        result = harness.predict(build, BATCH, inputs=(WIDTH,), gpu="l4", prepare=prepare)
        return result.saved_bytes or 0

    inside = 4 * BATCH * WIDTH * (4 + 4)  # of a block: what GELU and the second layer save
    none, every = peak(StepChange()), peak(StepChange(checkpointing="every block"))
    half = peak(StepChange(checkpointing="every second block"))
    assert none - every == DEPTH * inside
    assert none - half == DEPTH // 2 * inside


def test_accumulated_gradients_are_the_gradients_of_the_whole_batch() -> None:
    """The code that a plan prints, run on the CPU."""
    torch.manual_seed(0)
    model, loss_function = build(), nn.CrossEntropyLoss()
    batch_x, batch_y = torch.randn(8, WIDTH), torch.randint(10, (8,))
    loss_function(model(batch_x), batch_y).backward()
    whole = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    change = StepChange(checkpointing="every block")
    own = OwnStep(build=build, batch=8, inputs=(WIDTH,), optimizer="adam")
    code = code_of(change, subject_of(own, model, GPUS["l4"]), 4)
    code = code.replace(".cuda()", "")
    exec(code, {"torch": torch, "model": model, "x": batch_x, "labels": batch_y})
    parts = [p.grad for p in model.parameters() if p.grad is not None]
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other)


def test_blocks_are_the_repeated_children_of_containers() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, batch_first=True)
    assert blocks_of(nn.TransformerEncoder(layer, 3)) == [f"layers.{i}" for i in range(3)]
    assert blocks_of(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))) == []
    result = harness.plan(
        lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH)), 4, gpu=small(2), inputs=(WIDTH,), loss="sum"
    )
    assert any("no repeated blocks" in note for note in result.notes)


def test_autocast_is_tried_only_where_the_gpu_has_bfloat16() -> None:
    old = replace(small(TIGHT), capability=(7, 5))
    result = harness.plan(build, BATCH, gpu=old, inputs=(WIDTH,))
    assert {c.change.autocast for c in result.candidates} == {None}


@pytest.mark.slow
def test_the_command_prints_the_first_candidate_its_proof_and_its_code(
    ask: Ask, tmp_path: Path
) -> None:
    page = str(tmp_path / "plan.html")
    target = f"plan {__name__}:build --input {WIDTH} --batch {BATCH}".split()
    gpu = ["--gpu", "l4", "--memory", f"{768 + TIGHT}MiB", "--optimizer", "adam"]
    text = ask([*target, *gpu]).out
    assert "the next larger micro-batch" in text
    assert text.startswith(f"{__name__}:build, batch 8,192: ")
    assert "fits on l4" in text.splitlines()[1]
    assert "time, about" in text
    assert "one change to the whole batch" in text
    assert "not run: FSDP2 on 8 GPUs: of parameters" in text
    result = json.loads(ask([*target, "--gpu", "l4", "--json", "--html", page]).out)
    assert "Each change by itself" in Path(page).read_text()
    assert result["candidates"][0]["described"] == "nothing"
    little = ["--gpu", "l4", "--memory", "400MiB", "--optimizer", "none"]
    assert "nothing that was tried fits" in ask([*target[:-1], "2", *little], 3).out


def test_every_lever_says_what_it_saves_and_costs_also_those_that_the_search_left_out(
    tight: Plan,
) -> None:
    levers = {one.name: one for one in tight.levers}
    assert {"2 micro-batches", "checkpoint every block", "8-bit optimizer states"} < set(levers)
    for one in tight.levers:
        if one.fit is None:
            assert one.why
            continue
        before = tight.as_asked.reserved_peak_bytes[1]
        assert one.saved_bytes == before - one.fit.reserved_peak_bytes[1]
    saved = [one.order for one in tight.levers]
    assert saved == sorted(saved, reverse=True)
    assert levers["checkpoint every block"].relative_time == pytest.approx(4 / 3)
    sharded = levers["FSDP2 on 8 GPUs"].why
    elements = sum(each.numel() for each in build().parameters())
    assert format_bytes(elements * 16 * 7 // 8) in sharded
    html = tight._repr_html_()
    assert html.count("<rect") == 2 * (1 + len(tight.candidates))


def test_other_ways_to_load_and_save_have_their_bytes(tight: Plan) -> None:
    on_host, mapped, shards = tight.edges
    weights = sum(each.nbytes for each in build().parameters())
    assert mapped.saved_bytes == weights
    assert shards.saved_bytes == 3 * weights * 7 // 8  # weights and Adam's two states
    assert on_host.fit is not None
    more = on_host.fit.reserved_peak_bytes[1] - tight.as_asked.reserved_peak_bytes[1]
    assert 0 < on_host.saved_bytes == more <= weights + SEGMENT
    saving = known(tight.saving)
    assert saving.state_bytes == 3 * weights
    assert saving.largest_bytes == max(each.nbytes for each in build().parameters())
    assert f"async_save holds {3 * weights:,} B on the host" in tight._repr_html_()
    assert f"loading and saving: {shards}" in tight._repr_html_().replace("&#x27;", "'")


def test_a_resumed_step_keeps_what_torch_load_allocates() -> None:
    """Tied weights are one storage, a part of a larger one is all of it, and buffers are loaded."""
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.BatchNorm1d(64))
    model[1].weight = model[0].weight
    model[2].weight = nn.Parameter(torch.zeros(128)[:64])
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    loaded = torch.load(file).values()
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in loaded}
    keep_loaded(model)
    kept = [one.nbytes for name, one in model.named_buffers() if name.startswith(LOADED)]
    assert sorted(kept) == sorted(storages.values())


def test_eight_bit_states_are_those_of_bitsandbytes() -> None:
    """Two bytes an element and a scale of 4 bytes for each 256 elements of a state."""
    large, little = nn.Parameter(torch.zeros(64, 100)), nn.Parameter(torch.zeros(4095))
    large.grad, little.grad = torch.zeros_like(large), torch.zeros_like(little)
    optimizer = EightBitStates([large, little])
    optimizer.step()
    sizes = [sum(t.nbytes for t in optimizer.state[p].values()) for p in (large, little)]
    assert sizes == [2 * 6400 + 2 * 4 * 25, 2 * 4 * 4095]


def test_lora_trains_adapters_of_the_blocks_alone_and_changes_no_output_at_first() -> None:
    model, x = build(), torch.randn(3, WIDTH)
    before = model(x)
    adapt(model)
    trained = {name for name, each in model.named_parameters() if each.requires_grad}
    assert len(trained) == 2 * 2 * DEPTH
    assert all(".lora_" in name for name in trained)
    for name, each in model.named_parameters():
        if "lora_B" in name:
            nn.init.zeros_(each)
    torch.testing.assert_close(model(x), before)


@pytest.mark.parametrize(
    ("inputs", "loss", "line"),
    [
        ("16", "cross-entropy", "loss = torch.nn.functional.cross_entropy(model(x), labels)"),
        ({"tokens": "int64:8", "meta": "32"}, "sum", "model(tokens=tokens, meta=meta).sum()"),
        ({"input_ids": "int64:8", "labels": "int64:8"}, "model", "input_ids, labels in zip("),
    ],
)
def test_the_code_is_of_the_users_own_call(inputs: Any, loss: str, line: str) -> None:
    own = OwnStep(build=build, batch=8, inputs=inputs, loss=loss)
    code = code_of(StepChange(), subject_of(own, build(), GPUS["l4"]), 2)
    assert line in code
