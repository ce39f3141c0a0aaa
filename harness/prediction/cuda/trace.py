"""The events of a workload's build and steps as CUDA's kernels and PyTorch's engine make them."""

from harness.events import Trace
from harness.prediction.cuda.gpus import Gpu
from harness.prediction.cuda.kernels import CudaKernels
from harness.prediction.steps import Steps
from harness.prediction.tape import Tape
from harness.prediction.trace import NotFollowedError, collection_paused
from harness.workload import Workload

_ACCUMULATOR_BYTES = {"float64": 8}


class CudaSteps:
    """Writes the build and the steps of ``workload`` on ``gpu``, as many as asked for.

    Raises:
        NotFollowedError: the workload has a part that is not followed here.

    """

    def __init__(self, workload: Workload, gpu: Gpu) -> None:
        _check(workload)
        self._tape = Tape(with_host=False)
        self._kernels = CudaKernels(self._tape, gpu, _ACCUMULATOR_BYTES.get(workload.dtype, 4))
        self._steps = Steps(self._tape, workload, self._kernels)
        self._steps.build()

    @property
    def workspace_bytes(self) -> int:
        """Bytes of all workspaces that the steps so far left behind."""
        return self._kernels.kept_bytes

    def step(self) -> None:
        """Write one more step."""
        with collection_paused():
            self._steps.step()

    def trace(self) -> Trace:
        """Return what was written; its last step is the measured one."""
        return self._tape.trace()


def _check(workload: Workload) -> None:
    if workload.autocast is not None:
        raise NotFollowedError("autocast on CUDA: its casts are not followed")
