"""A training of changing lengths, recorded once and replayed: each replay is the training itself.

The training runs under the dry run with every setting; the replays know its default run only.
"""

from pathlib import Path

import pytest

from harness.dry_runs.toolchain import DryRunUnavailableError
from tests.dry_runs.scripts import succeeds
from tests.known import known
from tests.snapshots.replays import replay_devices

pytestmark = pytest.mark.slow

TRAINING = """
import random, torch
from torch import nn
layer = lambda: nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True)
net = nn.Sequential(*(layer() for _ in range(6)), nn.Linear(512, 4096)).cuda()
optimizer, draw = torch.optim.AdamW(net.parameters()), random.Random(50)
for _ in range(12):
    x = torch.zeros(draw.choice((4, 8, 12)), draw.choice((128, 192, 320, 448)), 512, device="cuda")
    optimizer.zero_grad()
    net(x).square().mean().backward()
    optimizer.step()
"""

SETTINGS = (
    "expandable_segments:True",
    "max_split_size_mb:64",
    "max_split_size_mb:200",
    "garbage_collection_threshold:0.5",
    "roundup_power2_divisions:4",
    "roundup_power2_divisions:[256:1,512:2,1024:4,>:8]",
    "large_segment_size_mb:64",
    "max_split_size_mb:64,max_non_split_rounding_mb:32",
    "expandable_segments:True,roundup_power2_divisions:8",
    "expandable_segments:True,large_segment_size_mb:40",
    "max_split_size_mb:32,roundup_power2_divisions:2",
    "garbage_collection_threshold:0.8,max_split_size_mb:128",
    "large_segment_size_mb:32,max_split_size_mb:64",
    "roundup_power2_divisions:16,large_segment_size_mb:24",
)


def trained(folder: Path, settings: str, snapshot: Path | None = None) -> tuple[int, int]:
    """Return the peaks of the training itself under settings: allocated, reserved."""
    environment = {"PYTORCH_ALLOC_CONF": settings} if settings else {}
    report = succeeds(folder, TRAINING, gpu="a100-80gb", environment=environment, snapshot=snapshot)
    return known(report.cuda.allocated_peak_bytes), known(report.cuda.reserved_peak_bytes)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[int, int]]:
    folder = tmp_path_factory.mktemp("recorded")
    path = folder / "snapshot.pickle"
    try:
        return path, trained(folder, "", path)
    except DryRunUnavailableError as error:
        pytest.skip(str(error))


def test_the_recorded_settings_are_the_recorded_peaks(
    recording: tuple[Path, tuple[int, int]],
) -> None:
    path, (allocated, reserved) = recording
    (replay,) = replay_devices(path)
    assert replay.what_ifs[0].peak_reserved_bytes == (reserved, reserved)
    assert replay.what_ifs[0].peak_allocated_bytes == allocated


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_replay_is_the_training_under_other_settings(
    settings: str, recording: tuple[Path, tuple[int, int]], tmp_path: Path
) -> None:
    (replay,) = replay_devices(recording[0], settings=settings)
    case = replay.what_ifs[1]
    low, high = known(case.peak_reserved_bytes)
    allocated, reserved = trained(tmp_path, settings)
    assert low <= reserved <= high
    assert (case.peak_allocated_bytes, low) == (allocated, high)
