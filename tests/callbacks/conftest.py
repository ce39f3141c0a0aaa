"""The fixture that skips where PyTorch is no CUDA build."""

from tests.dry_runs.conftest import cuda_build as cuda_build
