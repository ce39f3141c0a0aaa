from pathlib import Path

from experiments import activations
from harness.schema.experiment import Size
from harness.schema.findings import Verdict
from harness.schema.record import Record
from harness.schema.workload import ACTIVATIONS, MODELS, Workload
from tests.experiments import predicted_records
from tests.known import known

# Tensors kept per hidden layer, by what each derivative is written in (derivatives.yaml): the
# next linear layer keeps the output; gelu, silu and leaky_relu keep their input next to it.
BY_HAND = {
    **dict.fromkeys(("relu", "relu_inplace", "sigmoid", "tanh", "identity"), 1),
    **dict.fromkeys(("gelu", "silu", "leaky_relu"), 2),
}


def _by_hand(model: str, activation: str) -> int:
    return 3 if (model, activation) == ("mlp-scratch", "relu") else BY_HAND[activation]


def _planted(workload: Workload, spare: int = 0) -> Record:
    """Saved bytes by hand; ``spare`` bytes more."""
    unit = 4 * workload.batch * known(workload.width)
    kept = _by_hand(workload.model, workload.activation) * workload.depth * unit
    return predicted_records.record(workload, saved_bytes=9999 + kept + spare)


def test_planted_counts_come_back(tmp_path: Path) -> None:
    records = [_planted(workload) for workload in activations.cells(Size.QUICK)]
    section = predicted_records.section(activations, tmp_path, records)
    held, note, scratch = section.claims
    assert held.verdict is Verdict.SUPPORTED
    assert held.number == "a whole number from 1 on in 16 of 16 pairs, 1 to 3 per layer"
    assert note.verdict is Verdict.SUPPORTED
    assert note.number == "exactly one tensor per layer in 4 of 4 pairs"
    assert scratch.verdict is Verdict.REFUTED
    assert scratch.number == "3 times as much per layer"
    assert "in 7 of 7 pairs" in scratch.measured
    (table,) = [one.frame for one in section.tables if one.name == "kept"]
    result = {(row.model, row.activation): row.tensors_kept_per_layer for row in table.itertuples()}
    assert result == {(m, a): _by_hand(m, a) for m in MODELS for a in ACTIVATIONS}
