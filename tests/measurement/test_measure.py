from pathlib import Path

import pytest

from harness.measurement.measure import measure
from harness.measurement.process.launcher import Launcher, default_launcher
from harness.schema.record import Outcome
from harness.schema.workload import Workload
from harness.training import image_files
from tests.training.test_data import write_images

EXACT = (
    "saved_bytes", "modules", "peak_live_bytes", "first_step_peak_live_bytes",
    "live_at_start_bytes", "live_before_forward_bytes", "phases", "categories_at_peak",
)  # fmt: skip


def test_real_images_and_synthetic_ones_give_the_same_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: Launcher
) -> None:
    write_images(tmp_path, 50)
    monkeypatch.setenv(image_files.FOLDER_VARIABLE, str(tmp_path))
    own = default_launcher("pinned")
    try:
        for workload in (Workload(batch=120), Workload(batch=7, dtype="float64", mode="inference")):
            synthetic = measure(workload, launcher=launcher)
            real = measure(workload.replace(data="fashion-mnist"), launcher=own)
            assert real.outcome is Outcome.OK
            for name in EXACT:
                assert getattr(real, name) == getattr(synthetic, name), name
    finally:
        own.close()
