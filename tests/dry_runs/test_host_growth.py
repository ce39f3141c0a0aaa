"""Growth of the host over steps: programs that keep more there, and programs that do not."""

from pathlib import Path

import pytest

from harness.dry_runs.dry_run_text import growth_lines
from harness.schema.growth import Growth
from tests.dry_runs.growing import HEAD
from tests.dry_runs.scripts import run

pytestmark = pytest.mark.usefixtures("cuda_build")

KIB = 1 << 10

GROWING = {
    "a list of arrays": (
        "rows holds",
        400_000,
        """
import numpy
rows = []
for _ in range(24):
    step(net(batch()).square().mean())
    rows.append(numpy.ones(50_000))
""",
    ),
    "copies of the parameters": (
        "trainer.best holds",
        4 * (257 * 256 + 257 * 16),
        """
class Trainer:
    best = []
trainer = Trainer()
trainer.best = []
for _ in range(24):
    step(net(batch()).square().mean())
    trainer.best.append({name: value.cpu() for name, value in net.state_dict().items()})
""",
    ),
    "texts": (
        "texts holds",
        4_000 * (64 + 8),
        """
texts = []
for number in range(24):
    step(net(batch()).square().mean())
    texts += [f"{number} {other}" for other in range(4_000)]
""",
    ),
}
"""By name: a part of the cause that is named, the bytes that a step keeps, and the program."""

LEVEL = {
    "a list of numbers, and workers": """
class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 24 * 32
    def __getitem__(self, index):
        return torch.ones(256)
losses = []
for rows in torch.utils.data.DataLoader(Rows(), batch_size=32, num_workers=1, pin_memory=True):
    loss = net(rows.cuda()).square().mean()
    step(loss)
    losses.append(loss.item())
""",
    "a window of arrays": """
import numpy
window = collections.deque(maxlen=4)
for _ in range(24):
    step(net(batch()).square().mean())
    window.append(numpy.ones(50_000))
""",
    "a cache that fills": """
import numpy
cache = {}
for _ in range(24):
    length = random.choice((8, 16, 24, 32))
    cache.setdefault(length, numpy.ones(length * 10_000))
    step(net(batch(length)).square().mean())
""",
}


def growth_of(folder: Path, program: str) -> tuple[Growth, list[str]]:
    report = run(folder, HEAD + program)
    assert report.outcome == "ok", report.evidence
    assert report.host is not None
    assert report.host.growth is not None
    return report.host.growth, list(growth_lines(report))


@pytest.mark.parametrize("name", GROWING)
def test_what_a_step_keeps_on_the_host_is_found(name: str, tmp_path: Path) -> None:
    cause, kept_bytes, program = GROWING[name]
    growth, lines = growth_of(tmp_path, program)
    assert growth.kind == "leak", growth
    assert growth.per_step_bytes == pytest.approx(kept_bytes, rel=0.1, abs=16 * KIB)
    assert cause in growth.causes[0]
    assert lines[0].startswith("No growth:")  # of the GPU


@pytest.mark.parametrize("name", LEVEL)
def test_a_program_that_keeps_no_more_on_the_host_is_level(name: str, tmp_path: Path) -> None:
    growth, lines = growth_of(tmp_path, LEVEL[name])
    assert (growth.kind, growth.causes) == ("plateau", ()), growth
    assert lines[-1].startswith("No growth of the host: less than 128 KiB a step is kept")


def test_an_allocator_that_warms_up_is_no_growth(tmp_path: Path) -> None:
    text = f"""
import numpy
sizes = []
for number in range(40):
    step(net(batch()).square().mean())
    parts = [numpy.ones(random.randint(1, 4_000)) for _ in range(60 + 20 * number)]
    last = parts[::7][:20]
    del parts
    sizes.append(int(open("/proc/self/statm").read().split()[1]) * 4096)
open({str(tmp_path / "grown")!r}, "w").write(str(sizes[-1] - sizes[0]))
"""
    growth, _ = growth_of(tmp_path, text)
    assert int((tmp_path / "grown").read_text()) > 40 * 128 * KIB  # the resident size did grow
    assert growth.kind == "plateau", growth
