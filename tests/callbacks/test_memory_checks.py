"""A trainer's memory is predicted before its first step and compared after its second."""

import shlex
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

from harness.callbacks import step_check
from harness.callbacks.step_check import StepCheck
from harness.dry_runs import dry_run
from harness.planning.ask_step import answered
from harness.planning.sent_step import request_of
from harness.planning.step_question import TraceStep
from harness.prediction.gpu.catalogue import GPUS
from harness.schema.metrics import CudaMetrics
from harness.schema.step import Step
from harness.schema.step_report import StepReport
from harness.schema.step_request import StepRequest
from tests.child_process import run
from tests.known import known

ROWS = 4096


class Net(nn.Module):
    """A network that returns its loss, as those of a hub do."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*[nn.Linear(512, 512) for _ in range(8)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).square().mean()  # type: ignore[no-any-return]


def train(check: StepCheck | None) -> list[float]:
    """Return the losses, and a random number after them."""
    torch.manual_seed(0)
    model, x = Net(), torch.randn(ROWS, 512)
    optimizer = torch.optim.AdamW(model.parameters())
    if check is not None:
        check.ask(model, (x,), optimizer)
    losses = []
    for _ in range(2):
        loss = model(x)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        del loss
        if check is not None:
            check.after_step()
    return [*losses, float(torch.rand(()))]


def test_a_loop_takes_what_was_predicted_and_computes_the_same() -> None:
    lines: list[str] = []
    check = StepCheck(tolerance=0.3, tell=lines.append)
    assert train(check) == train(None)
    assert check.expected_bytes > 64 << 20
    assert [line.partition(" ")[0] for line in lines] == ["predicted", "RSS"]


@pytest.mark.parametrize(("measured", "warns"), [(109, False), (112, True), (88, True)])
def test_a_gpu_s_peak_that_differs_by_more_than_the_tolerance_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, measured: int, warns: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: measured << 20)
    lines: list[str] = []
    check = StepCheck(tell=lines.append)
    cuda = CudaMetrics(allocated_peak_bytes=100 << 20)
    check._begin(StepReport(method="dry run", cuda=cuda), GPUS["l4"], ())
    check.after_step()
    assert len(lines) == 1
    check.after_step()
    assert lines[1].startswith("warning: more than 10% apart: ") == warns


def on_a_gpu() -> tuple[int | None, str]:
    """Train on CUDA; return the peak that was measured, and the question about it as JSON."""
    questions: list[str] = []

    def asked(step: Step, **_: object) -> StepReport:
        questions.append(msgspec.json.encode(request_of(step)).decode())
        return StepReport(method="dry run", cuda=CudaMetrics(allocated_peak_bytes=1))

    vars(step_check).update(predict_step=asked, pretended_device=lambda: None)
    check = StepCheck(tell=str)
    with torch.device("cuda"):
        train(check)
    return check.measured_bytes, questions[0]


@pytest.mark.slow
@pytest.mark.usefixtures("cuda_build")
def test_the_peak_on_a_gpu_is_the_one_that_its_question_predicts() -> None:
    returned: Any = dry_run(on_a_gpu, gpu="l4", quiet=True, answers={"*": 0}).returned
    measured, question = returned
    request = msgspec.json.decode(question, type=StepRequest)
    asked = TraceStep(
        request=request, device="cuda", gpus=(GPUS["l4"],), settings="", fits=True, largest=False
    )
    cuda = known(answered(asked).cuda)
    assert abs(known(cuda.allocated_peak_bytes) - measured) < 1 << 16


def test_of_several_processes_the_first_says_once_what_to_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(sys, "argv", ["my train.py", "--lr", "0.1"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(step_check, "_named_gpu", lambda: ["--gpu", "l4"])
    check = StepCheck(tell=said.append)
    for _ in range(2):
        check.do_not_ask("it is one of 2 processes", ranks=2, is_first=True)
    StepCheck(tell=said.append).do_not_ask("it is one of 2", ranks=2, is_first=False)
    start = "the memory of the step is not asked: it is one of 2 processes; type harness dry-run"
    assert said == [f"{start} --gpu l4 --world-size 2 --steps 2 -- 'my train.py' --lr 0.1"]


TRAIN = """
import sys, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from harness.callbacks.step_check import StepCheck

on_gpu = torch.cuda.is_available()
dist.init_process_group("nccl" if on_gpu else "gloo")
device = torch.device("cuda" if on_gpu else "cpu")
model = DistributedDataParallel(torch.nn.Linear(512, 512).to(device))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
ranks = dist.get_world_size()
StepCheck().do_not_ask("several", ranks=ranks, is_first=dist.get_rank() == 0)
for _ in range(3):
    model(torch.ones(int(sys.argv[1]), 512, device=device)).sum().backward()
    optimizer.step()
dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.usefixtures("cuda_build")
def test_what_it_says_to_type_runs_one_of_the_ranks(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)

    python = (sys.executable, "-m")
    launched = ("torch.distributed.run", "--nproc-per-node", "2", "train.py", "64")
    lines = run(*python, *launched, cwd=tmp_path).stderr.splitlines()
    (said,) = [line for line in lines if "type harness" in line]
    answer = run(*python, *shlex.split(said.partition("type ")[2]), cwd=tmp_path)
    assert "rank 0 of 2" in answer.stdout
    assert "ok, fits" in answer.stdout
    assert "type harness" not in answer.stderr, "a dry run needs no other one"


def test_a_model_that_cannot_be_asked_is_one_line() -> None:
    lines: list[str] = []
    model = nn.Linear(4, 2)
    check = StepCheck(tell=lines.append)
    check.ask(model, (torch.ones(3, 4),), torch.optim.SGD(model.parameters()))
    check.after_step()
    check.after_step()
    (line,) = lines
    assert "is not asked: StepError: loss 'model' needs one scalar" in line


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_trainer_of_transformers_is_asked_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from harness.callbacks.hugging_face import MemoryCheck

    sizes = {"n_layer": 2, "n_embd": 128, "n_head": 2, "vocab_size": 8000, "n_positions": 128}
    tokens = torch.arange(128)
    trainer = transformers.Trainer(
        model=transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)),
        args=transformers.TrainingArguments(
            str(tmp_path), max_steps=2, use_cpu=True, report_to=[], disable_tqdm=True
        ),
        train_dataset=[{"input_ids": tokens, "labels": tokens}] * 16,
        callbacks=[check := MemoryCheck(tolerance=0.3)],
    )
    trainer.train()
    assert_compared(check, capsys)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_trainer_of_lightning_is_asked_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lightning = pytest.importorskip("lightning")
    from harness.callbacks.lightning_fit import MemoryCheck

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]  # no types
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def training_step(self, batch: Any, number: int) -> Any:
            return self.net(batch)

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters())

    rows: Any = torch.randn(2 * ROWS, 512)
    silent = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    trainer = lightning.Trainer(
        max_steps=2, accelerator="cpu", default_root_dir=tmp_path, **silent,
        callbacks=[check := MemoryCheck(tolerance=0.3)],
    )  # fmt: skip
    trainer.fit(Module(), torch.utils.data.DataLoader(rows, batch_size=ROWS))
    assert_compared(check, capsys)


def assert_compared(check: StepCheck, capsys: pytest.CaptureFixture[str]) -> None:
    """Fail unless the harness said two lines, neither of them a warning."""
    lines = [one for one in capsys.readouterr().err.splitlines() if one.startswith("harness:")]
    assert len(lines) == 2, lines
    assert "warning" not in "".join(lines)
    assert check.expected_bytes > 64 << 20
