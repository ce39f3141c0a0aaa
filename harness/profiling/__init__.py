"""The trace of any ``torch.nn.Module``: measured around its own step, or foretold."""
