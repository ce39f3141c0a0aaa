import dataclasses
import math
from typing import Any

import pytest

from harness.schema.workload import Grid, Workload, WorkloadError


def test_equal_layers_are_the_same_workload_however_they_are_written() -> None:
    written = Workload(hidden=(256, 256))
    assert written == Workload(depth=2, width=256)
    assert written.id == Workload(depth=2, width=256).id
    uneven = Workload(hidden=(300, 7, 1024))
    assert (uneven.depth, uneven.width, uneven.widths) == (3, None, (300, 7, 1024))
    assert uneven.replace(depth=2, width=8).widths == (8, 8)


def test_ids_are_frozen() -> None:
    """Committed results are found by these; a changed id would orphan them."""
    assert Workload().id == "44136fa355b3678a"
    assert Workload(depth=8, batch=512).id == "8b8b5217a503b5cc"
    assert Workload(optimizer="adam", dtype="bfloat16").id == "48b3dcd58a4716cc"
    assert Workload(hidden=(512, 256), mode="inference").id == "963ca21ac9b02146"
    assert Workload(norm="none", dropout=-0.0).id == Workload().id, "layers that are switched off"


def test_every_field_tells_workloads_apart() -> None:
    other: dict[str, Any] = {
        "model": "mlp-scratch", "depth": 2, "width": 8, "hidden": (3, 4), "in_features": 5,
        "classes": 3, "activation": "tanh", "norm": "layer", "dropout": 0.5, "batch": 9,
        "dtype": "float64", "autocast": "bfloat16", "optimizer": "adam", "foreach": "on",
        "mode": "inference", "checkpoint": 1, "accumulate": 2, "device": "cuda", "threads": 2,
        "data": "fashion-mnist", "malloc": "system", "seed": 1,
    }  # fmt: skip
    assert set(other) == {item.name for item in dataclasses.fields(Workload)}
    ids = {Workload(**{name: value}).id for name, value in other.items()}
    assert len(ids | {Workload().id}) == len(other) + 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depth": 0}, "depth must be between 1 and 65,536, got 0"),
        ({"depth": True}, "depth must be a whole number between 1 and 65,536, got True"),
        ({"batch": 2**63}, "batch must be between 1 and 2,147,483,647, got 9223372036854775808"),
        ({"hidden": (3, 0)}, "hidden must be whole numbers between 1 and 2,147,483,647, got 0"),
        ({"hidden": (1,) * 65_537}, "hidden must be at most 65,536 widths, got 65537"),
        ({"width": None}, "width must be given if hidden is not, got None"),
        ({"activation": "rleu"}, r"got 'rleu' \(did you mean relu\?\)"),
        ({"width": 2**31 - 1, "depth": 9}, "width must be small enough for .* got 2147483647"),
        ({"batch": 2**31 - 1, "width": 2**30}, "batch must be at most 67,108,814 for layers"),
        ({"checkpoint": 2}, r"checkpoint must be at most depth \(1\), got 2"),
        ({"batch": 2, "accumulate": 3}, r"accumulate must be at most batch \(2\), got 3"),
        ({"mode": "inference", "accumulate": 2}, "accumulate must be 1 in mode inference, got 2"),
        ({"mode": "inference", "checkpoint": 1}, "checkpoint must be 0 in mode inference, got 1"),
        ({"norm": "bach"}, "one of none, batch, layer, got 'bach' .did you mean batch"),
        ({"dropout": 1.0}, "dropout must be at least 0 and less than 1, got 1.0"),
        ({"dropout": -0.1}, "dropout must be at least 0 and less than 1, got -0.1"),
        ({"dropout": math.nan}, "dropout must be at least 0 and less than 1, got nan"),
        ({"dropout": True}, "dropout must be at least 0 and less than 1, got True"),
        ({"norm": "batch", "model": "mlp-scratch"}, "norm must be none .* mlp-scratch, got"),
        ({"dropout": 0.5, "model": "mlp-scratch"}, "dropout must be 0 .* mlp-scratch, got 0.5"),
        ({"norm": "batch", "batch": 1}, "at least 2 for training with batch normalization, got 1"),
        ({"norm": "batch", "batch": 7, "accumulate": 4}, "at least 8 .* 4 micro-batches, got 7"),
        ({"data": "fashion-mnist", "classes": 3}, "synthetic for 784 features and 3 classes"),
    ],
)
def test_a_broken_rule_is_named_with_field_and_value(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        Workload(**fields)


def test_one_row_is_enough_where_no_variance_is_computed() -> None:
    """A trained batch normalization predicts with the variances that it remembers."""
    assert Workload(norm="batch", mode="inference", batch=1).least_batch == 1
    assert Workload(norm="layer", batch=1).least_batch == 1
    assert Workload(norm="batch", batch=6, accumulate=3).least_batch == 6


def test_a_grid_is_the_product_of_its_axes_last_axis_fastest() -> None:
    grid = Grid(base=Workload(width=8), axes={"depth": [1, 2], "batch": [3, 4]})
    assert [(w.depth, w.batch) for w in grid] == [(1, 3), (1, 4), (2, 3), (2, 4)]
    assert len(grid) == 4
    with pytest.raises(WorkloadError, match=r"axes must be fields of a workload .* got 'depht'"):
        Grid(axes={"depht": [1]})
