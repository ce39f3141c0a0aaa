"""Each planted mistake can still be planted, and the tests that should notice it are there."""

from benchmarks.validation.mutations import MUTATIONS, ROOT


def test_every_mutation_occurs_once_and_names_tests_that_are_there() -> None:
    for mutation in MUTATIONS:
        assert (ROOT / mutation.file).read_text().count(mutation.old) == 1, mutation
        named = [word for word in mutation.tests if word.startswith("tests/")]
        assert named, mutation
        assert all((ROOT / name.partition("::")[0]).exists() for name in named), mutation
