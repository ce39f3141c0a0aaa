"""Which tests can run here: those marked ``cuda`` need a GPU, real or pretended."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("cuda")]
    reason = _why_no_gpu() if marked else None
    if reason is not None:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))


def _why_no_gpu() -> str | None:
    import torch

    if torch.version.cuda is None:
        return "the installed torch is a build without CUDA"
    return None if torch.cuda.is_available() else "torch sees no GPU"
