"""The note's own network and training loop, one step of it under harness.trace.

    python docs/scripts/trace_the_note.py

Two corrections: ReLU is ``torch.max(X, zeros)`` (with the note's ``0``, ``torch.max`` takes the
maximum over a dimension), and the book's package is not needed.
"""

import torch
from torch import nn

import harness


def relu(X):
    return torch.max(X, torch.zeros_like(X))


class MLPScratch(nn.Module):
    def __init__(self, num_inputs, num_outputs, num_hidden, sigma=0.01):
        super().__init__()
        self.num_inputs = num_inputs
        self.W1 = nn.Parameter(torch.randn(num_inputs, num_hidden) * sigma)
        self.b1 = nn.Parameter(torch.zeros(num_hidden))
        self.W2 = nn.Parameter(torch.randn(num_hidden, num_outputs) * sigma)
        self.b2 = nn.Parameter(torch.zeros(num_outputs))

    def forward(self, X):
        X = X.reshape((-1, self.num_inputs))
        H = relu(torch.matmul(X, self.W1) + self.b1)
        return torch.matmul(H, self.W2) + self.b2


class Trainer:
    def __init__(self, model, lr):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr)

    def step(self, X, y):
        loss = nn.functional.cross_entropy(self.model(X), y)
        self.optimizer.zero_grad()  # after the forward pass, as in the note
        loss.backward()
        self.optimizer.step()


model = MLPScratch(num_inputs=784, num_outputs=10, num_hidden=256)
trainer = Trainer(model, lr=0.1)
X, y = torch.rand(256, 1, 28, 28), torch.randint(10, (256,))

trainer.step(X, y)  # the first step creates the gradients
with harness.trace(model, optimizer=trainer.optimizer, inputs=[X, y]) as trace:
    trainer.step(X, y)

print(f"{trace.peak_live_bytes:,} bytes at the peak, in the {trace.trace.peak_phase} phase")
for category, size in trace.categories_at_peak().items():
    print(f"  {category:16} {size:>9,}")
