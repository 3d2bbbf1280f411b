"""``python -m tests.data``: writes small.safetensors and small.nc, which the formats' own libraries make.

It was run by hand with Python 3.11, NumPy 2.4.6, safetensors 0.8.0, ml_dtypes 0.6.0 and netCDF4 1.7.5 (netCDF-C
4.10.1, HDF5 2.2.0); the same versions give the same bytes. Where these packages are not installed, the tests read what
was written then.
"""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import netCDF4
import numpy as np
from safetensors.numpy import save_file

HERE = Path(__file__).parent


def main() -> None:
    """Write both files."""
    x = np.array([[0, 1, -2, 0.5], [3, 448, 2.0**-9, -0.375]], np.float32)
    kinds = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
    kinds |= {"F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2}
    save_file({name: x.astype(kind) for name, kind in kinds.items()}, HERE / "small.safetensors", {"by": "safetensors"})
    (HERE / "small.safetensors").chmod(0o644)
    with netCDF4.Dataset(HERE / "small.nc", "w") as file:
        file.createDimension("lat", 2)
        file.createDimension("lon", 4)
        file.createVariable("lat", "f4", ("lat",))[:] = [-45, 45]
        file.createVariable("t2m", "f4", ("lat", "lon"))[:] = x


if __name__ == "__main__":
    main()
