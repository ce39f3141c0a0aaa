from pathlib import Path

import pytest

from harness.processes.measuring_code import essence, measuring_code

CODE = '"""Doc."""\nimport os\n\n\ndef f() -> int:\n    """Say."""\n    return 1\n'


@pytest.mark.parametrize(
    ("name", "before", "after", "same"),
    [
        ("a.py", CODE, CODE.replace("Say.", "Say\n    it."), True),
        ("a.py", CODE, "# why\n" + CODE.replace("\n\n\n", "\n"), True),
        ("a.py", CODE, CODE.replace("return 1", "return 2"), False),
        ("a.py", CODE, CODE + "    return 2\n", False),
        ("a.py", 'a = """\n#one\n"""\n', 'a = """\n#two\n"""\n', False),
        ("a.c", "int a; // one", "int a; /* two\n */\n", True),
        ("a.c", "int a;", "int b;", False),
    ],
)
def test_what_a_compiler_does_not_read_does_not_count(
    tmp_path: Path, name: str, before: str, after: str, same: bool
) -> None:
    path = tmp_path / name
    path.write_text(before)
    first = essence(path)
    path.write_text(after)
    assert (essence(path) == first) is same


def test_the_dry_run_counts_on_a_pretended_gpu_alone() -> None:
    assert measuring_code(pretended=True) != measuring_code(pretended=False)
