"""CUDA without CUDA: cards, the events of a step as CUDA runs it, and the peaks they make."""
