"""One rank of many in one process: PyTorch's fake process group in place of NCCL.

The fake group moves nothing between ranks, and allocates what a rank's own collectives allocate.
"""

import functools
import os
from typing import Any


def variables(rank: int, world_size: int | None, gpus: int) -> dict[str, str]:
    """Return the environment variables that ``torchrun`` sets for a rank; none without ranks."""
    if world_size is None:
        return {}
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(rank % gpus),
        "LOCAL_WORLD_SIZE": str(min(gpus, world_size)),
        "GROUP_RANK": str(rank // gpus),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
    }


def pretend_ranks(notes: list[str]) -> None:
    """Have ``init_process_group`` make the fake group, whatever backend the script names."""
    import torch.distributed as dist
    from torch.distributed import device_mesh, distributed_c10d
    from torch.nn.parallel import distributed as data_parallel
    from torch.testing._internal.distributed.fake_pg import FakeStore

    real = distributed_c10d.init_process_group

    @functools.wraps(real)
    def init_process_group(backend: str | None = None, *_: object, **named: Any) -> None:
        kept = {name: named[name] for name in ("device_id",) if name in named}
        rank, world_size = named.get("rank", -1), named.get("world_size", -1)
        real(
            "fake",
            store=FakeStore(),
            rank=int(os.environ["RANK"]) if rank in (-1, None) else rank,
            world_size=int(os.environ["WORLD_SIZE"]) if world_size in (-1, None) else world_size,
            **kept,
        )
        notes.append(f"the process group {backend or 'nccl'} was replaced by PyTorch's fake one")

    for module in (dist, distributed_c10d, device_mesh):
        if hasattr(module, "init_process_group"):
            vars(module)["init_process_group"] = init_process_group
    _groups_are_fake(dist, distributed_c10d)
    _ranks_agree(dist, distributed_c10d, data_parallel)
    _reduce_gradients_in_place(data_parallel.DistributedDataParallel)


def _groups_are_fake(*modules: Any) -> None:
    """Have ``new_group`` leave the backend to the fake default group."""
    real = modules[0].new_group

    @functools.wraps(real)
    def new_group(*arguments: Any, **named: Any) -> Any:
        named.pop("backend", None)
        named.pop("pg_options", None)
        return real(*arguments[:2], **named)

    for module in modules:
        module.new_group = new_group


def _ranks_agree(dist: Any, distributed_c10d: Any, data_parallel: Any) -> None:
    """Answer what ranks ask each other about Python objects as if all were equal to this one."""

    def all_gather_object(objects: list[Any], value: Any, group: Any = None) -> None:
        del group
        objects[:] = [value] * len(objects)

    def gather_object(
        value: Any, objects: list[Any] | None = None, *_: object, **__: object
    ) -> None:
        if objects is not None:
            objects[:] = [value] * len(objects)

    def broadcast_object_list(*_: object, **__: object) -> None:
        """Leave the list as it is on this rank."""

    for module in (dist, distributed_c10d):
        module.all_gather_object = all_gather_object
        module.gather_object = gather_object
        module.broadcast_object_list = broadcast_object_list
    # DDP compares the shapes of its parameters with rank 0's, which the fake group cannot send.
    data_parallel._verify_param_shape_across_processes = lambda *_, **__: True


def _reduce_gradients_in_place(wrapper: Any) -> None:
    """Make DDP treat a bucket of gradients as reduced: the fake group's own answer is empty.

    NCCL reduces a bucket in place as well, so this allocates what it allocates. A hook that the
    script registers itself is left alone.
    """
    forward = wrapper.forward

    def unchanged(state: object, bucket: Any) -> Any:
        import torch

        del state
        reduced: Any = torch.futures.Future()
        reduced.set_result(bucket.buffer())
        return reduced

    unchanged.__annotations__.clear()  # DDP refuses a hook whose annotations are not its own

    @functools.wraps(forward)
    def with_hook(model: Any, *arguments: Any, **named: Any) -> Any:
        if not model._comm_hooks:
            model.register_comm_hook(None, unchanged)
        return forward(model, *arguments, **named)

    wrapper.forward = with_hook
