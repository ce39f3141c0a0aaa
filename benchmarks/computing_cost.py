"""Measures what computing values costs, for four networks on the CPU and on the pretended GPU.

python benchmarks/computing_cost.py

Each row is a script in processes of its own: plain on the CPU, in a dry run without computed
values, and in a dry run that computes all of them. Processor time and peak memory include the
start of PyTorch and all processes of the run.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

STEPS = {"mlp": 200, "cnn": 100, "gpt2": 4, "resnet50": 6}
SETTINGS = "on the CPU", "--compute none", "--compute all"


def train(name: str, device: str) -> None:
    """Train a network for its number of steps, and print the last loss."""
    import torch
    from torch.nn.functional import cross_entropy

    torch.manual_seed(0)
    model, x, y = _workload(name)
    model, x, y = model.to(device), x.to(device), y.to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(STEPS[name]):
        loss = cross_entropy(model(x).flatten(0, -2), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("loss", loss.item())


def _workload(name: str):  # type: ignore[no-untyped-def]  # imports PyTorch
    import torch
    from torch import nn

    labels = torch.randint(10, (256,))
    if name == "mlp":
        linear = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
        return linear, torch.randn(256, 784), labels
    if name == "cnn":
        layers = (nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(10))
        model = nn.Sequential(*layers)
        model(torch.randn(1, 1, 28, 28))
        return model, torch.randn(64, 1, 28, 28), labels[:64]
    if name == "gpt2":
        from benchmarks.gpt2_small import VOCABULARY, Gpt2Small

        tokens = torch.randint(VOCABULARY, (1, 257))
        return Gpt2Small().eval(), tokens[:, :-1], tokens[:, 1:]
    from torchvision.models import resnet50

    return resnet50(), torch.randn(4, 3, 224, 224), labels[:4]


def cost(command: Sequence[str]) -> tuple[float, float, str]:
    """Return processor seconds and peak MiB of a command and its processes, and the last loss."""
    reader, writer = os.pipe()
    process = subprocess.Popen(command, stdout=writer, stderr=subprocess.DEVNULL)
    os.close(writer)
    with os.fdopen(reader) as lines:
        losses = [line.split()[1] for line in lines if line.startswith("loss ")]
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = status
    if status or not losses:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, losses[-1]


def main() -> None:
    """Print a row for each network and setting."""
    print("network   setting          processor s  of the CPU's  peak MiB  last loss")
    for name in STEPS:
        script = [os.path.abspath(__file__), name]  # noqa: PTH100
        plain = cost([sys.executable, *script, "cpu"])
        for setting in SETTINGS:
            dry = [sys.executable, "-m", "harness", "dry-run", *setting.split(), "--", *script]
            seconds, peak, loss = plain if setting == SETTINGS[0] else cost([*dry, "cuda"])
            ratio = f"{seconds / plain[0]:12.2f}"
            print(
                f"{name:9} {setting:16} {seconds:11.1f}  {ratio}  {peak:8.0f}  {loss}", flush=True
            )


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    if len(sys.argv) > 1:
        train(*sys.argv[1:])
    else:
        main()
