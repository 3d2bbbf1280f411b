"""``python -m tests.data``: writes the files beside this one, each with the library that users write it with.

It was run by hand with Python 3.11, NumPy 2.4.6, safetensors 0.8.0, ml_dtypes 0.6.0 and netCDF4 1.7.5 (netCDF-C
4.10.1, HDF5 2.2.0) for small.safetensors and small.nc, and with PyTorch 2.13.0, JAX 0.10.2, Flax 0.12.8, MLX 0.32.4,
TensorFlow 2.21.0 and Keras 3.15.1 for the files that are named after a framework. The same versions give the same bytes
of all but the HDF5 of Keras. A file whose library is not installed is left out: the tests read what was written then.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
X = np.array([[0, 1, -2, 0.5], [3, 448, 2.0**-9, -0.375]], np.float32)


def small(path: Path) -> None:
    """Write a .safetensors of five dtypes."""
    import ml_dtypes
    from safetensors.numpy import save_file

    kinds: dict[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
    kinds |= {"F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2}
    save_file({name: X.astype(kind) for name, kind in kinds.items()}, path, {"by": "safetensors"})


def climate(path: Path) -> None:
    """Write a netCDF-4 of one variable with named axes."""
    import netCDF4

    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("lat", 2)
        file.createDimension("lon", 4)
        file.createVariable("lat", "f4", ("lat",))[:] = [-45, 45]
        file.createVariable("t2m", "f4", ("lat", "lon"))[:] = X


def by_numpy(path: Path) -> None:
    """Write X as a user of NumPy does."""
    from safetensors.numpy import save_file

    save_file({"x": X}, path)


def by_torch(path: Path) -> None:
    """Write X as a user of PyTorch does, with the metadata that transformers asks for."""
    import torch
    from safetensors.torch import save_file

    save_file({"x": torch.tensor(X)}, path, {"format": "pt"})


def by_flax(path: Path) -> None:
    """Write X as a user of JAX and Flax does."""
    import jax.numpy as jnp
    from safetensors.flax import save_file

    save_file({"x": jnp.asarray(X)}, path)


def by_mlx(path: Path) -> None:
    """Write X as a user of MLX does: it has a writer of its own."""
    import mlx.core as mx

    mx.save_safetensors(str(path), {"x": mx.array(X)})


def by_tensorflow(path: Path) -> None:
    """Write X as a user of TensorFlow does."""
    import tensorflow as tf
    from safetensors.tensorflow import save_file

    save_file({"x": tf.constant(X)}, path)


def by_keras(path: Path) -> None:
    """Write X as the weights of a model, which Keras keeps as HDF5."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4, use_bias=False)])
    model.layers[0].set_weights([X])
    model.save_weights(path)


FILES = {
    "small.safetensors": small,
    "small.nc": climate,
    "numpy.safetensors": by_numpy,
    "torch.safetensors": by_torch,
    "flax.safetensors": by_flax,
    "mlx.safetensors": by_mlx,
    "tensorflow.safetensors": by_tensorflow,
    "keras.weights.h5": by_keras,
}

if __name__ == "__main__":
    for name, write in FILES.items():
        with suppress(ImportError):
            write(HERE / name)
            (HERE / name).chmod(0o644)
