"""pytorch#122582 and others: each rank loads the checkpoint, and the host runs out of memory.

Run with --world-size N --gpus N. "fixed" maps the file, so that the ranks share its pages.
"""

import pathlib
import sys

import torch
from torch import distributed, nn

distributed.init_process_group("nccl")
torch.cuda.set_device(distributed.get_rank() % torch.cuda.device_count())
file = pathlib.Path("weights.pt")
torch.save({f"{n}.weight": torch.empty(8192, 8192) for n in range(4)}, file)  # as downloaded
with torch.device("meta"):
    model = nn.Sequential(*[nn.Linear(8192, 8192, bias=False) for _ in range(4)])
weights = torch.load(file, mmap="fixed" in sys.argv)
model.load_state_dict(weights, assign=True)
model.cuda()
