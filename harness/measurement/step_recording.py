"""Records the allocations while a network is built and its steps run."""

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from harness.instruments import tensor_roles
from harness.instruments.allocation_trace import AllocationRecorder
from harness.instruments.saved_tensors import SavedTensors
from harness.schema.events import Trace
from harness.training.module_step import BuiltStep, Phase, announced_to, run_step
from harness.training.nested_tensors import tensors


class StepRecording:
    """Records a step; the recording begins before the network is built."""

    def __init__(self, device: str, announce: Phase, *, operators: bool = True) -> None:
        self._announce = announce
        self._recorder = AllocationRecorder(device, operators=operators)
        self._saved = SavedTensors(self._recorder.mark_saved)

    def record(self, make: Callable[[], BuiltStep], steps: Callable[[BuiltStep], object]) -> Trace:
        """Call ``make`` to build a step and ``steps`` to run it; return the trace of both calls."""
        with self._recorder:
            with self._phases()("build"):
                step = make()
            for name, held in self._parts(step.model):
                self._recorder.adopt(held, "parameter", name)
            self._recorder.adopt(tensors([step.x, step.y]), "input")
            steps(step)
        return self._recorder.trace

    def run(self, step: BuiltStep) -> None:
        """Run and record the step once."""
        self._recorder.next_step()
        self._saved.most = []
        modules = self._recorder.module_scopes(step.model, self._saved.modules)
        with self._saved.watch(), modules:
            run_step(step, self._phases())
        for name, held in self._parts(step.model):
            self._recorder.adopt(tensor_roles.gradients(held), "gradient", name)
            if step.optimizer is not None:
                states = tensors([step.optimizer.state.get(tensor) for tensor in held])
                self._recorder.adopt(states, "optimizer_state", name)
        self._recorder.mark(tensor_roles.state_addresses(step.optimizer))

    def _phases(self) -> Phase:
        """Return a function that announces a new phase to every instrument."""
        return announced_to(self._announce, self._recorder.phase)

    def _parts(self, model: nn.Module) -> Iterable[tuple[str, list[Tensor]]]:
        """Return lists of parameters and buffers, each list with its module's name in the trace."""
        return [("", [*model.parameters(), *model.buffers()])]
