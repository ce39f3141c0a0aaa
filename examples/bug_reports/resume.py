"""nanoGPT#158, Megatron-Bridge#3576 and others: only a resumed run goes out of memory.

Run with --resume. The file is loaded onto the GPU, and a name keeps this second copy of the weights
(Adam's states are taken over as they are); "fixed" loads it into the host's memory.
"""

import pathlib
import sys

import torch
from torch import nn

FILE = pathlib.Path("resume.pt")
model = nn.Sequential(*[nn.Linear(4096, 4096, bias=False) for _ in range(8)]).cuda()
optimizer = torch.optim.Adam(model.parameters())
if FILE.exists():
    saved = torch.load(FILE, map_location="cpu" if "fixed" in sys.argv else "cuda")
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
for _ in range(3):
    model(torch.ones(8, 4096, device="cuda")).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, FILE)
