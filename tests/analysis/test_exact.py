import pytest

from harness.analysis.exact import exact_form, exact_maximum
from tests.analysis import planted
from tests.known import known

CELLS = planted.CELLS
COLUMNS = {
    "constant": [1 for _ in CELLS],
    "depth": [depth for depth, _ in CELLS],
    "batch": [batch for _, batch in CELLS],
    "depth·batch": [depth * batch for depth, batch in CELLS],
}


def test_the_formula_of_saved_bytes_is_found_to_the_byte() -> None:
    result = known(exact_form(COLUMNS, [planted.saved_bytes(*cell) for cell in CELLS]))
    assert dict(result.coefficients) == {
        "constant": 4,
        "depth": 0,
        "batch": 4 * 784 + 8 + 4 * 10,
        "depth·batch": 4 * 256,
    }
    assert result.rows == len(CELLS)
    assert str(result) == "1,024·depth·batch + 3,184·batch + 4"


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


def _squares() -> list[list[int]]:
    wide = len(planted.BATCHES)
    return [
        [row * wide + at, row * wide + at + 1, (row + 1) * wide + at, (row + 1) * wide + at + 1]
        for row in range(len(planted.DEPTHS) - 1)
        for at in range(wide - 1)
    ]


def test_a_peak_is_the_larger_of_its_two_formulas() -> None:
    values = [planted.peak_bytes(*cell) for cell in CELLS]
    result = known(exact_maximum(COLUMNS, values, _squares()))
    assert (result.rows, result.total) == (len(CELLS), len(CELLS))
    products = sorted(int(form.coefficients["depth·batch"]) for form in result.forms)
    assert products == [0, 1024]
    batches = sorted(int(form.coefficients["batch"]) for form in result.forms)
    assert batches == [4168, 5192]


def test_noise_has_no_exact_maximum() -> None:
    values = [planted.peak_bytes(*cell) + (37 * at * at) % 101 for at, cell in enumerate(CELLS)]
    assert exact_maximum(COLUMNS, values, _squares()) is None
