"""Batches filled to a number of tokens; an end token in the data on the GPU ends a text."""

import os

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

device = os.environ.get("DEVICE", "cuda")
torch.manual_seed(0)
tokens = torch.randint(1, 200, (256, 100)).to(device)
tokens[torch.rand(256, 100).to(device) < 0.03] = 0
lengths = torch.where((tokens == 0).any(1), (tokens == 0).int().argmax(1), 100).clamp(min=1)
order = lengths.argsort(stable=True)

embedding = nn.Embedding(200, 64).to(device)
network = nn.LSTM(64, 128, batch_first=True).to(device)
head = nn.Linear(128, 200).to(device)
parameters = [*embedding.parameters(), *network.parameters(), *head.parameters()]
optimizer = torch.optim.Adam(parameters, lr=1e-3)
start = batches = 0
while start < len(order):
    longest, stop = 0, start
    while (
        stop < len(order) and max(longest, int(lengths[order[stop]])) * (stop - start + 1) <= 1500
    ):
        longest = max(longest, int(lengths[order[stop]]))
        stop += 1
    stop = max(stop, start + 1)
    rows = order[start:stop]
    length = lengths[rows]
    batch = tokens[rows][:, : int(length.max())]
    packed = pack_padded_sequence(
        embedding(batch), length.cpu(), batch_first=True, enforce_sorted=False
    )
    out, _ = pad_packed_sequence(network(packed)[0], batch_first=True)
    loss = nn.functional.cross_entropy(
        head(out[:, :-1]).flatten(0, 1), batch[:, 1:].flatten(), ignore_index=0
    )
    optimizer.zero_grad()
    if torch.isfinite(loss):
        loss.backward()
        optimizer.step()
    start, batches = stop, batches + 1
print("batches", batches, "last", tuple(batch.shape), f"loss {loss.item():.4f}")
