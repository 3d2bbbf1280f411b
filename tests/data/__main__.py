"""``python -m tests.data``: writes the files beside this one, each with the library that users write it with.

It was run by hand with Python 3.11, NumPy 2.4.6, safetensors 0.8.0, ml_dtypes 0.6.0 and netCDF4 1.7.5 (netCDF-C
4.10.1, HDF5 2.2.0) for small.safetensors and small.nc, and with PyTorch 2.13.0, JAX 0.10.2, Flax 0.12.8, MLX 0.32.4,
TensorFlow 2.21.0 and Keras 3.15.1 for the files that are named after a framework. The same versions give the same bytes
of all but the HDF5 of Keras. A file whose library is not installed is left out: the tests read what was written then.
"""

from __future__ import annotations

import os
import zipfile
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


def rewritten(path: Path, changed: dict[str, bytes]) -> None:
    """Write an archive of PyTorch again, with other bytes in some of its records."""
    with zipfile.ZipFile(path) as old:
        records = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(path, "w") as new:
        for record, content in records.items():
            new.writestr(zipfile.ZipInfo(record), changed.get(record.partition("/")[2], content))


def torch_pt(path: Path) -> None:
    """Write X as `torch.save` does."""
    import torch

    torch.save({"x": torch.tensor(X)}, path)


def torch_pth(path: Path) -> None:
    """Write X as a view: every second column of a matrix in Fortran order."""
    import torch

    columns = torch.full((8, 2), 9.0)
    columns[::2] = torch.tensor(X).T
    torch.save({"x": columns.T[:, ::2]}, path)


def torch_bin(path: Path) -> None:
    """Write X as a machine whose bytes are in the other order does; PyTorch reads what comes out."""
    import torch

    torch.save({"x": torch.tensor(X)}, path)
    rewritten(path, {"byteorder": b"big", "data/0": X.astype(">f4").tobytes()})
    assert torch.equal(torch.load(path)["x"], torch.tensor(X))


def checkpoint(path: Path) -> None:
    """Write what a checkpoint holds: every dtype, views, shared storages, a lone parameter, and no tensors."""
    import torch

    layer = torch.nn.Linear(4, 2, bias=False)
    layer.weight.data = torch.tensor(X)
    kinds = "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64 bfloat16"
    kinds += " float8_e4m3fn float8_e5m2 complex64"
    x = torch.arange(120.0).reshape(2, 3, 4, 5)
    torch.save(
        {
            "state_dict": torch.nn.ModuleDict({"layer1": layer}).state_dict(),
            "kinds": {kind: torch.arange(6).reshape(2, 3).to(getattr(torch, kind)) for kind in kinds.split()},
            "views": [
                x,
                x.permute(3, 2, 1, 0),
                x.to(memory_format=torch.channels_last),
                x[1, ::2, :, 3],
                x[0, 0, 0].expand(3, 5),
                x.transpose(1, 3).bfloat16(),
                (x[0, 0, 0, 0], torch.zeros(0, 3)),
            ],
            "negated": torch.arange(6).to(torch.complex64).conj().imag,
            "sparse": torch.eye(2).to_sparse(),
            "parameter": torch.nn.Parameter(x[0, 0]),
            "epoch": 3,
            "arguments": {"lr": 1e-3, "betas": (0.9, 0.999), "device": torch.device("cpu"), "array": X},
        },
        path,
    )


FILES = {
    "small.safetensors": small,
    "small.nc": climate,
    "numpy.safetensors": by_numpy,
    "torch.safetensors": by_torch,
    "flax.safetensors": by_flax,
    "mlx.safetensors": by_mlx,
    "tensorflow.safetensors": by_tensorflow,
    "keras.weights.h5": by_keras,
    "torch.pt": torch_pt,
    "torch.pth": torch_pth,
    "torch.bin": torch_bin,
    "checkpoint.pt": checkpoint,
}

if __name__ == "__main__":
    for name, write in FILES.items():
        with suppress(ImportError):
            write(HERE / name)
            (HERE / name).chmod(0o644)
