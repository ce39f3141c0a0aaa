import pytest

from harness.analysis.exact import exact_form
from tests.analysis import planted
from tests.known import known

CELLS = planted.CELLS
COLUMNS = {
    "constant": [1 for _ in CELLS],
    "depth": [depth for depth, _ in CELLS],
    "batch": [batch for _, batch in CELLS],
    "depth·batch": [depth * batch for depth, batch in CELLS],
}


@pytest.mark.parametrize("more", [0, 2**60], ids=["as it is", "beyond the precision of floats"])
def test_one_byte_off_in_one_cell_is_no_equality(more: int) -> None:
    values = [more + planted.saved_bytes(*cell) for cell in CELLS]
    result = known(exact_form(COLUMNS, values))
    assert result.coefficients["constant"] == more + 4
    for at in (0, 31, len(CELLS) - 1):
        changed = [value + (row == at) for row, value in enumerate(values)]
        assert exact_form(COLUMNS, changed) is None


@pytest.mark.parametrize("count", [1, 3, 4])
def test_as_many_coefficients_as_rows_prove_nothing(count: int) -> None:
    rows = [0, 10, 20, 40][:count]
    columns = {name: [column[at] for at in rows] for name, column in COLUMNS.items()}
    assert exact_form(columns, [planted.saved_bytes(*CELLS[at]) for at in rows]) is None
