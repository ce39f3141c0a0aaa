"""``harness dry-run -- COMMAND``: the script in what people type to start it, and its ranks."""

import click
import pytest

from harness.cli.launched_script import launched_script
from harness.cli.module_words import ended_at_module


@pytest.mark.parametrize(
    ("command", "script", "is_module", "nodes", "ranks"),
    [
        ("train.py --gpu l4", "train.py --gpu l4", False, 1, None),
        ("python -u train.py -m 1", "train.py -m 1", False, 1, None),
        ("/usr/bin/python3.11 -m a.train --b 2", "a.train --b 2", True, 1, None),
        ("torchrun train.py", "train.py", False, 1, 1),
        ("accelerate launch --cpu t.py", "accelerate.commands.launch --cpu t.py", True, 1, None),
        ("torchrun --nproc_per_node=8 --standalone train.py 4", "train.py 4", False, 1, 8),
        ("torchrun --nproc 8 train.py", "train.py", False, 1, 8),
        ("torchrun --nnodes 1:4 --rdzv-id 7 --nproc-per-node gpu -m a.b c", "a.b c", True, 4, 2),
        ("python -m torch.distributed.run --nnodes=2 t.py -m 3", "t.py -m 3", False, 2, 1),
    ],
)  # fmt: skip
def test_a_command_names_its_script_and_ranks(
    command: str, script: str, is_module: bool, nodes: int, ranks: int | None
) -> None:
    found = launched_script(tuple(command.split()), gpus=2)
    assert (" ".join(found.words), found.is_module) == (script, is_module)
    assert (found.nodes, found.ranks_of_node) == (nodes, ranks)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("python", "give a script to run, e.g. python train.py, got 'python'"),
        ("python -c pass", "give a script to run"),
        ("torchrun --nproc-per-node 2", "e.g. torchrun train.py"),
        ("torchrun --nproc-per-node many train.py", "whole numbers of ranks, got '1', 'many'"),
        ("torchrun --nnodes=0 train.py", "whole numbers of ranks, got '0', '1'"),
        ("accelerate config", "accelerate is not read.* harness dry-run --world-size N"),
    ],
)
def test_what_is_not_understood_is_refused(command: str, message: str) -> None:
    with pytest.raises(click.UsageError, match=message):
        launched_script(tuple(command.split()), gpus=1)


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("--gpu l4 -m pytest -q t.py", "--gpu l4 -m pytest -- -q t.py"),
        ("--json -mpytest --gpu l4", "--json -mpytest -- --gpu l4"),
        ("-m a.train -- --batch 4", "-m a.train -- --batch 4"),
        ("--gpus=2 --json train.py -m 3", "--gpus=2 --json train.py -m 3"),
        ("-- train.py -m 3", "-- train.py -m 3"),
        ("--gpu l4 -m", "--gpu l4 -m"),
    ],
)
def test_options_end_with_a_module_s_name_as_python_s_do(typed: str, read: str) -> None:
    assert " ".join(ended_at_module(typed.split(), {"--json"})) == read
