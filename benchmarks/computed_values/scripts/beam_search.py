"""Beam search: a beam ends at one of ten tokens, and finished beams are kept."""

import os

import torch
from torch import nn

device = os.environ.get("DEVICE", "cuda")
torch.manual_seed(0)
VOCABULARY, ENDS = 40, 10


class Language(nn.Module):
    """A GRU cell between an embedding and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 128)
        self.cell = nn.GRUCell(128, 128)
        self.head = nn.Linear(128, VOCABULARY)

    def forward(
        self, token: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logarithms of the probabilities of the next token, and the state."""
        state = self.cell(self.embedding(token), state)
        return torch.log_softmax(self.head(state), -1), state


model = Language().to(device).eval()
finished = []
history = []
with torch.no_grad():
    tokens = torch.zeros(1, 1, dtype=torch.long, device=device)
    scores = torch.zeros(1, device=device)
    state = torch.zeros(1, 128, device=device)
    for _ in range(40):
        logits, state = model(tokens[:, -1], state)
        total = (scores[:, None] + logits).flatten()
        scores, places = total.topk(min(8, total.numel()))
        beams = places // VOCABULARY
        tokens = torch.cat([tokens[beams], (places % VOCABULARY)[:, None]], 1)
        state = state[beams]
        ended = tokens[:, -1] < ENDS
        for beam in ended.nonzero()[:, 0].tolist():
            finished.append((scores[beam].item(), tokens[beam].tolist()))
            history.append(torch.zeros(256 * 1024, device=device))
        if len(finished) >= 5 or ended.all():
            break
        tokens, scores, state = tokens[~ended], scores[~ended], state[~ended]
finished.sort(reverse=True)
print("finished", len(finished), "best", finished[:1], "steps", tokens.shape[1])
