"""xtuner#2069: Muon gathers the experts of one rank into a buffer for the experts of all ranks.

Run with --world-size 512. A matrix has an eighth of the reported hidden size. "fixed" divides the
number of rows by the number of ranks among which the experts are divided.
"""

import sys

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh

distributed.init_process_group("nccl")
experts, hidden, inner, matrices = 256, 6144 // 8, 2048, 12
expert_ranks, shards = 8, distributed.get_world_size() // 8
mesh = init_device_mesh("cuda", (shards, expert_ranks), mesh_dim_names=("shards", "experts"))
group = mesh.get_group("shards")
own_rows = experts * hidden // expert_ranks // shards
rows = own_rows if "fixed" in sys.argv else experts * hidden // shards
momenta = torch.ones(matrices, own_rows, inner, dtype=torch.bfloat16, device="cuda")
padded = torch.zeros(matrices, rows, inner, dtype=torch.bfloat16, device="cuda")
padded[:, :own_rows] = momenta
gathered = torch.empty(shards * matrices, rows, inner, dtype=torch.bfloat16, device="cuda")
distributed.all_gather_into_tensor(gathered, padded, group=group)
flat = gathered.view(shards, matrices, rows * inner).transpose(0, 1).flatten()
distributed.destroy_process_group()
