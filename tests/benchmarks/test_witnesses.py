"""Planted rows: what a score counts, and what it must not count."""

import dataclasses
import importlib
import json
import re
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from benchmarks.witnesses.chapter import ladder_text, scores_of
from benchmarks.witnesses.clones import CloneError, clone_of, text_of
from benchmarks.witnesses.pictures import OURS
from benchmarks.witnesses.published import publish, read
from benchmarks.witnesses.rows import MIB, RefusedError, Row
from benchmarks.witnesses.runner import drawn, record_of, records_in, run
from benchmarks.witnesses.scores import CLOSE_BYTES, crashed_rows, score
from benchmarks.witnesses.sizes import CrashedRunError
from benchmarks.witnesses.sources import (
    ckp_training,
    cs336_attention,
    custom_lomo,
    gpumemnet_mlps,
    liger,
    unsloth_notebooks,
)
from benchmarks.witnesses.training import Training, train
from tests.known import known

OUTSIDE = 1_429 * MIB
ROOT = Path(__file__).parents[2]


def planted(count: int) -> list[Row]:
    return [
        Row(
            source="planted",
            name=f"row {number}",
            metric="nvidia-smi",
            measured_bytes=OUTSIDE + number * number * MIB,
            traits={},
        )
        for number in range(count)
    ]


def right(row: Row) -> int:
    return row.measured_bytes - OUTSIDE


def changes(row: Row) -> int:
    return right(row) + (row.measured_bytes >= OUTSIDE + 10_000 * MIB) * 500 * MIB


def refuses(row: Row) -> int:
    raise RefusedError("takes language models")


@pytest.mark.parametrize(
    ("count", "answer", "said"),
    [
        (400, right, {"rows": 300, "equal": 300, "close": 300, "constant_bytes": OUTSIDE}),
        (400, lambda row: 2 * right(row), {"rows": 300, "close": 0}),
        (300, changes, {"rows": 200, "close": 0, "constant_bytes": OUTSIDE}),
        (30, refuses, {"rows": 20, "refused": 20, "close": 0, "within_1_percent": 0}),
    ],
    ids=["right up to a constant", "wrong", "other in the rows that are scored", "refused"],
)
def test_a_score_counts_what_is_close_up_to_a_constant_of_other_rows(
    count: int, answer: Callable[[Row], int], said: dict[str, int], tmp_path: Path
) -> None:
    rows = planted(count)
    result = score(rows, run(rows, answer, tmp_path / "x.jsonl"), frozenset(), "planted")
    assert {name: getattr(result, name) for name in said} == said
    assert (abs(result.worst_bytes) > CLOSE_BYTES) == (not result.close and not result.refused)


def test_a_run_that_is_resumed_counts_no_row_twice(tmp_path: Path) -> None:
    rows, path = planted(20), tmp_path / "right.jsonl"
    run(rows[:10], right, path)
    whole = path.read_text()
    path.write_text(whole + whole.splitlines()[0][:40])  # the process ended inside of a line
    asked: list[str] = []

    def asks(row: Row) -> int:
        asked.append(row.name)
        return right(row)

    records = run(rows, asks, path)
    assert asked == [row.name for row in rows[10:]]
    assert len(records) == len(records_in(path)) == 20
    whole_lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
    assert sum(json.loads(line)["row"] == "row 0" for line in whole_lines) == 1


def test_a_published_score_is_that_of_the_records_and_leaves_out_a_run_that_crashed(
    tmp_path: Path,
) -> None:
    rows = planted(40)

    def notices(row: Row) -> int:
        if row.name == "row 29":
            raise CrashedRunError("target size")
        if row.name == "row 30":
            raise RefusedError("unknown")
        return right(row) + 3 * MIB

    records = run(rows, notices, tmp_path / "dry-run.jsonl")
    run(rows, lambda row: right(row) + (row.name == "row 29") * MIB * 900, tmp_path / "other.jsonl")
    publish(rows, tmp_path, tmp_path / "planted.csv")
    read_rows, said, crashed = read(tmp_path / "planted.csv")
    assert [row.name for row in read_rows] == [row.name for row in rows]
    assert crashed == crashed_rows(tmp_path) == {"row 29"}
    again = score(read_rows, said["dry-run"], crashed, "dry-run")
    first = score(rows, records, crashed, "dry-run")
    assert (again.refused, again.crashed, again.close) == (1, 1, 25)
    assert dataclasses.replace(again, seconds=0) == dataclasses.replace(first, seconds=0)
    other = score(read_rows, said["other"], crashed, "other")
    assert (other.crashed, other.rows, other.close) == (1, 26, 26)


def test_a_clone_is_made_only_if_that_is_asked_for(clone: Path, tmp_path: Path) -> None:
    source = dataclasses.replace(gpumemnet_mlps.SOURCE, repository=clone.as_uri())
    with pytest.raises(CloneError, match="give --fetch, or: git clone"):
        clone_of(source, None, tmp_path, fetch=False)
    made = clone_of(source, None, tmp_path, fetch=True)
    assert text_of(made, "HEAD", gpumemnet_mlps.PATHS[0]).startswith("Filename")


def test_each_beginning_of_the_drawn_order_is_the_beginning_of_a_longer_one() -> None:
    rows = planted(50)
    assert drawn(rows, 3) == drawn(rows, 3) != drawn(rows, 4)
    assert sorted(row.name for row in drawn(rows, 3)) == sorted(row.name for row in rows)


def test_the_readme_says_what_the_published_scores_say() -> None:
    scores = scores_of(read(ROOT / "results" / "witnesses" / "gpumemnet-mlps.csv"))
    (ours,) = (one for one in scores if one.predictor == "dry-run")
    best = max((one for one in scores if one.predictor not in OURS), key=lambda one: one.close)
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"within 2 MiB for {ours.close:,} of the {ours.rows:,} trainings" in readme
    assert f"tool is within 2 MiB for {best.close:,} of the {best.rows:,}" in readme


def test_the_page_on_related_work_compares_the_same_rows() -> None:
    rows, said, crashed = read(ROOT / "results" / "witnesses" / "gpumemnet-mlps.csv")
    scored = [row for row in rows if row.name in said["fakegpu"] and row.name not in crashed][100:]
    errors = {}
    for name in ("dry-run", "fakegpu"):
        constant = score(rows, said[name], crashed, name).constant_bytes
        sizes = [(said[name][row.name]["predicted_bytes"] or 0) + constant for row in scored]
        errors[name] = [abs(a - b.measured_bytes) for a, b in zip(sizes, scored, strict=True)]
    nearer = sum(a < b for a, b in zip(errors["dry-run"], errors["fakegpu"], strict=True))
    within = {
        name: sum(100 * a <= b.measured_bytes for a, b in zip(sizes, scored, strict=True))
        for name, sizes in errors.items()
    }
    page = " ".join((ROOT / "docs/related-work.md").read_text().split())
    assert f"It is within 1% for {within['fakegpu']} trainings" in page
    assert f"within 1% for {within['dry-run']}, and nearer than FakeGPU in {nearer}." in page


def test_a_printed_table_is_read_with_the_resolution_of_its_digits() -> None:
    read_by = cs336_attention.TABLES
    lines = "  16  256  0.090  0.429  20.8  29.0  OK\n16 & 256 & 0.090 & 0.429 & 20.8 & 29.0"
    tenth = round(0.1 * MIB)
    assert cs336_attention._numbers(read_by["duoan"], lines) == {
        (16, 256, "before backward"): (round(20.8 * MIB), tenth),
        (16, 256, "peak"): (29 * MIB, tenth),
    }
    out_of_memory = "16,16384,,,,Out of Memory\n16,256,0.1,0.2,19660800.0,"
    numbers = cs336_attention._numbers(read_by["MAGMA27"], out_of_memory)
    assert numbers == {(16, 256, "before backward"): (19_660_800, 1)}


def test_a_comment_with_two_numbers_is_read_for_the_script_as_it_is() -> None:
    line = "loss = sum(linear2(linear1(inputs))) # shape = (1)\n#5KB set to zero => 3.5 = 5-1.5"
    assert re.findall(custom_lomo.COMMENTS[8], line) == ["3.5"]
    with pytest.raises(RefusedError, match="other comments"):
        custom_lomo.commented(line)


def test_four_numbers_of_a_line_are_read() -> None:
    line = "MA 232.0 KB         Max_MA 245.5 KB         CA 2048.0 KB         Max_CA 2048 KB"
    assert re.findall(ckp_training.PRINTED, line) == [("232.0", "245.5", "2048.0", "2048")]


def test_a_record_names_the_version_in_which_the_script_ran() -> None:
    row = dataclasses.replace(planted(1)[0], torch="2.8")
    assert record_of(row, right)["torch"] == "2.8"
    assert record_of(planted(1)[0], right)["torch"] == version("torch")


def test_the_sources_with_scripts_are_as_equal_as_the_page_says() -> None:
    page = " ".join((ROOT / "results/witnesses/README.md").read_text().split())
    for name, equal, sentence in (
        ("custom-lomo", 10, "All ten are equal on torch 2.14"),
        ("torchinfo-issue", 1, "the prediction is 8.0078 MiB too low"),
        ("ckp-training", 8, "All eight are equal"),
        ("fakegpu-workspaces", 10, "All ten numbers are equal to the byte"),
        ("torch-jet", 107, "107 of the 120 readings are equal to the byte"),
    ):
        (one,) = scores_of(read(ROOT / f"results/witnesses/{name}.csv"))
        assert (one.equal, one.refused) == (equal, 0)
        assert sentence in page


def test_an_answer_for_a_model_with_other_parameters_is_refused() -> None:
    theirs = "Trainable parameters = 30,375,936 of 298,474,112 (10.18% trained)"
    unsloth_notebooks.same_parameters("Trainable parameters = 30,375,936 of 298,474,112", theirs)
    ours = "Trainable parameters = 30,375,936 of 298,474,111"
    with pytest.raises(RefusedError, match="298,474,111 here"):
        unsloth_notebooks.same_parameters(ours, theirs)


def test_modules_of_two_commits_do_not_mix(tmp_path: Path) -> None:
    commits = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "benchmark_planted.py").write_text(f"NAME = {name!r}")
        commits.append(liger._Modules([str(tmp_path / name)]))
    for modules, name in 2 * list(zip(commits, ("first", "second"), strict=True)):
        with modules:
            assert name == importlib.import_module("benchmark_planted").NAME


HEAD = "Filename,Activations-Params,Max GPU Memory (MiB)\n"
BINARY = "\"[('linear', 3, 15), ('ReLU', 3, 0), ('linear', 1, 4)]\""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with GPUMemNet's two tables, of one row each."""
    folder = tmp_path_factory.mktemp("clone")
    first, second = map(folder.joinpath, gpumemnet_mlps.PATHS)
    first.parent.mkdir(parents=True)
    name = "input:4_output:1_depth:1_arch:uniform_batch:1000"
    first.write_text(f"{HEAD}{name}.out,{BINARY},1443\n")
    second.write_text(
        f"{HEAD}{name}_act:relu_dropout:0.3_dropout:False_batchnorm:False.out,{BINARY},1451\n"
    )
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "tables"]):
        subprocess.run([*git, *command], check=True)
    return folder


@pytest.fixture
def trainings(clone: Path, monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    monkeypatch.setattr(gpumemnet_mlps, "COMMIT", "HEAD")
    rows = gpumemnet_mlps.rows(clone)
    assert rows[0].measured_bytes == 1_443 * MIB
    return [known(row.training)() for row in rows]


def test_the_network_is_built_from_the_published_layers(trainings: list[Training]) -> None:
    _, second = trainings
    assert sum(parameter.numel() for parameter in second.network().parameters()) == 19
    assert second.batches == 2 * (4 * (1_000,) + (96,)) + 2 * (1_000,)


def test_pytorch_says_that_a_published_run_crashed(trainings: list[Training]) -> None:
    with pytest.raises(CrashedRunError, match="Target size"):
        train(trainings[0], "cpu")
    train(trainings[1], "cpu")  # its script gives the labels the right shape


def test_the_ladder_counts_each_side_of_a_batch_and_no_refusal() -> None:
    answers = {"equal": 64, "too small": 48, "too large": 96, "none": None}
    rows = [
        dataclasses.replace(planted(1)[0], name=name, metric="batch", measured_bytes=64)
        for name in answers
    ]

    def answer(row: Row) -> int:
        if (batch := answers[row.name]) is None:
            raise RefusedError("no such model")
        return batch

    said = {row.name: record_of(row, answer) for row in rows}
    assert ladder_text(rows, said).split(", and ") == [
        "2 of 3 batches that ran are predicted to fit",
        "2 of 3 next larger batches are predicted not to fit",
    ]
