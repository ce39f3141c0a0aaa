"""The static estimator of FakeGPU at commit 7d5cf83 (1.5.5), which adds up fake tensors.

It is called as in the project's README. Its answer is allocated bytes of one step without
workspaces that its profiles lack, and it needs no CUDA build of PyTorch.
"""

from benchmarks.witnesses.rows import RefusedError, Row


def predict(row: Row) -> int:
    """Return the estimated peak of a training step with Adam on an A100."""
    import torch
    from fakegpu.memory_estimator import (  # type: ignore[import-not-found]
        estimate_module_memory,
    )

    if row.training is None:
        raise RefusedError("needs a network, not a script")
    training = row.training()
    with torch.device("cpu"):
        model = training.network()
    x, y = training.example(training.batch)
    criterion = training.loss()
    report = estimate_module_memory(
        model,
        (x,),
        loss_fn=lambda output: training.lost(criterion, output, y),
        optimizer="adam",
        target_device="auto",
        target_profile="a100",
    )
    return int(report["estimated_peak_bytes"])
