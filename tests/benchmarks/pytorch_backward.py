"""Gradients with PyTorch's autograd, as one would write it: ``python pytorch_backward.py X DY DX GROUPS``."""

from __future__ import annotations

import sys


def main() -> None:
    """Write the gradient of X to DX, and print those of gamma and beta."""
    import numpy as np
    import torch
    from torch.nn.functional import group_norm

    x = torch.from_numpy(np.load(sys.argv[1])).requires_grad_()
    dy = torch.from_numpy(np.load(sys.argv[2]))
    gamma, beta = (make(x.shape[1]).requires_grad_() for make in (torch.ones, torch.zeros))
    group_norm(x, int(sys.argv[4]), gamma, beta).backward(dy)
    for gradient in (gamma.grad, beta.grad, dy, x.grad):
        print(*(float(found) for found in (gradient.mean(), gradient.std(), gradient.min(), gradient.max())))
    np.save(sys.argv[3], x.grad.numpy())


if __name__ == "__main__":
    main()
