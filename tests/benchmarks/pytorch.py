"""The same with PyTorch, as one would write it: ``python pytorch.py IN OUT GROUPS``."""

from __future__ import annotations

import sys


def main() -> None:
    """Normalize IN into OUT."""
    import numpy as np
    import torch
    from torch.nn.functional import group_norm

    x = torch.from_numpy(np.load(sys.argv[1]))
    with torch.no_grad():
        print(*(float(found) for found in (x.mean(), x.std(), x.min(), x.max())))
        y = group_norm(x, int(sys.argv[3]))
        print(*(float(found) for found in (y.mean(), y.std(), y.min(), y.max())))
    np.save(sys.argv[2], y.numpy())


if __name__ == "__main__":
    main()
