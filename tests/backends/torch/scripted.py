"""A model whose code calls TorchScript, which asks for values where no torch function shows it."""

import warnings

import torch
from torch import nn


def _counted(x: torch.Tensor) -> int:
    return int((x != 0).sum())


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    count = torch.jit.script(_counted)


class Scripted(nn.Module):
    """Which layer runs depends on what a scripted function counts."""

    def __init__(self):
        super().__init__()
        self.first, self.nonzero, self.zero = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x):
        x = self.first(x)
        return (self.nonzero if count(x) else self.zero)(x)
