"""The peak of the second step by PyTorch's MemTracker on fake tensors."""

from benchmarks.witnesses.rows import RefusedError, Row
from benchmarks.witnesses.sizes import CrashedRunError


def predict(row: Row) -> int:
    """Return the peak of the bytes that MemTracker tracks."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    if row.training is None:
        raise RefusedError("needs a network, not a script")
    training = row.training()
    with FakeTensorMode():
        model = training.network()
        x, y = training.example(training.batch)
        optimizer = torch.optim.Adam(model.parameters(), foreach=True)
        criterion = training.loss()
        tracker = MemTracker()
        tracker.track_external(model, optimizer, x, y)

        def step() -> None:
            optimizer.zero_grad()
            training.lost(criterion, model(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        with tracker:
            try:
                step()
            except ValueError as error:
                raise CrashedRunError(str(error)) from error
            tracker.reset_mod_stats()
            step()
    return int(tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"])
