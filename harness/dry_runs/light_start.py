"""First harness code in a process that the script started; runs when PyTorch is imported.

``stub/processes/bring_recorder.c`` executes this file in each started process. The file imports no
other harness module until PyTorch initialises CUDA or a process group, so other processes have no
overhead.
"""

import contextlib
import functools
import importlib
import importlib.util
import os
import sys
from typing import Any

SEED = 7_310_579_553_881_862
"""Seed of PyTorch's CPU generator, because PyTorch's default seed differs between processes."""


def watch_groups(c10d: Any, ranks: Any) -> None:
    """Call functions of ``real_ranks.py``, which ``ranks`` returns, when a process group begins."""
    real = c10d.init_process_group

    @functools.wraps(real)
    def init_process_group(*given: Any, **named: Any) -> Any:
        ranks().check_store(*given, **named)
        joined = real(*given, **named)
        if c10d.get_world_size() > 1:
            ranks().begin()
        return joined

    for module in (c10d, sys.modules["torch.distributed"]):
        vars(module)["init_process_group"] = init_process_group


def _harness(module: str) -> Any:
    """Import a module of this harness, even if ``sys.path`` has another package called harness."""
    own = os.environ["HARNESS_DRY_RUN_RECORDER"]  # RECORDER of pretended_environment.py
    file = os.path.join(os.path.dirname(os.path.dirname(own)), "__init__.py")  # noqa: PTH118, PTH120
    loaded = sys.modules.get("harness")
    if loaded is None:
        spec = importlib.util.spec_from_file_location("harness", file)
        assert spec is not None
        assert spec.loader is not None
        sys.modules["harness"] = loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
    if loaded.__file__ != file:
        raise ImportError("another package is called harness")
    return importlib.import_module(module)


def _record() -> None:
    """Start recording this process; print a warning if this fails."""
    try:
        _harness("harness.dry_runs.started_process").record()
    except Exception as error:
        print(f"harness dry-run: process {os.getpid()} is not recorded: {error}", file=sys.stderr)


def _begin() -> None:
    import torch

    torch.default_generator.manual_seed(SEED)
    torch.cuda._lazy_call(_record)  # type: ignore[no-untyped-call]
    if (c10d := sys.modules.get("torch.distributed.distributed_c10d")) is not None:
        watch_groups(c10d, lambda: _harness("harness.dry_runs.real_ranks"))


if __name__ == "harness_dry_run" and "harness.dry_runs.child" not in sys.modules:
    with contextlib.suppress(Exception):  # the script's own import raises it again
        _begin()
