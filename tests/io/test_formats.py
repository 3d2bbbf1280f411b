"""Every format by every road: as a file, as a name in a file, and from a pipe, each command gives the same numbers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gncli import names
from gncli.cli import main
from gncli.errors import InputError
from gncli.io import open_source
from gncli.io.formats import FORMATS, LEGACY_PYTORCH, READ, WRITTEN, recognized, written
from gncli.io.rawfile import RawFile
from tests import data
from tests.archives import entry, tensors
from tests.faults import piped
from tests.marks import slow_but
from tests.stores import group, store, v2, v3

X = np.array([[0, 1, -2, 0.5], [3, 448, 2.0**-9, -0.375]], np.float32)
KEPT = "gncli: <stdin>: kept in a file in $TMPDIR, to be read more than once\n"
ENTRY = entry("F32", X.shape, 0, X.nbytes)


def committed(path: Path) -> None:
    shutil.copy(Path(data.__file__).with_name(path.name), path)


def chunked(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=X, chunks=(1, 3), compression="gzip")


def contiguous(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        file["x"] = X


def sharded(path: Path) -> None:
    shard = path.with_name("x-00001-of-00001.safetensors")
    shard.write_bytes(tensors({"x": ENTRY}, X.tobytes()))
    path.write_text(json.dumps({"metadata": {"total_size": X.nbytes}, "weight_map": {"x": shard.name}}))


def grouped(path: Path) -> None:
    for folder in (path, path / "a"):
        group(folder)
    store(path / "a" / "x", v3(X.shape, (1, 4)), c_0_0=X[0], c_1_0=X[1])
    store(path / "b", v2((1,), (1,)))


# A row per format and per writer: the name of the file, the name of the tensor in it, and who writes it. Further
# tensors may be in the file, where "and more" stands.
CASES: dict[str, tuple[str, str | None, Callable[[Path], object]]] = {
    ".npy": ("x.npy", None, lambda path: np.save(path, X)),
    ".npy, Fortran order": ("x.npy", None, lambda path: np.save(path, np.asfortranarray(X))),
    ".npy, big-endian": ("x.npy", None, lambda path: np.save(path, X.astype(">f4"))),
    ".npz": ("x.npz", "x", lambda path: np.savez(path, x=X)),
    ".npz, compressed": ("x.npz", "x", lambda path: np.savez_compressed(path, x=X)),
    ".npz, and more": ("x.npz", "x", lambda path: np.savez(path, a=X, x=X)),
    ".pt of PyTorch": ("torch.pt", "x", committed),
    ".pth of PyTorch, strided": ("torch.pth", "x", committed),
    ".bin of PyTorch, big-endian": ("torch.bin", "x", committed),
    ".pt, and more": ("checkpoint.pt", "state_dict.layer1.weight", committed),
    ".safetensors": ("x.safetensors", "x", lambda path: path.write_bytes(tensors({"x": ENTRY}, X.tobytes()))),
    ".safetensors of NumPy": ("numpy.safetensors", "x", committed),
    ".safetensors of PyTorch": ("torch.safetensors", "x", committed),
    ".safetensors of Flax": ("flax.safetensors", "x", committed),
    ".safetensors of MLX": ("mlx.safetensors", "x", committed),
    ".safetensors of TensorFlow": ("tensorflow.safetensors", "x", committed),
    ".safetensors, and more": ("small.safetensors", "F32", committed),
    ".hdf5": ("x.hdf5", "x", chunked),
    ".h5 with a user block": ("x.h5", "/x", contiguous),
    ".h5 of Keras": ("keras.weights.h5", "layers/dense/vars/0", committed),
    ".nc, and more": ("small.nc", "t2m", committed),
    ".zarr": ("x.zarr", None, lambda path: store(path, v3(X.shape, X.shape), c_0_0=X)),
    ".zarr, and more": ("x.zarr", "/a/x", grouped),
    ".safetensors in shards": ("x.safetensors.index.json", "x", sharded),
}
# A file of HDF5 with a user block cannot be recognized by the first bytes of a pipe, no shards lie next to a pipe, and
# a store is a folder.
FILES = [case for case in CASES if ".zarr" not in case]
QUICK = (".npy", ".npz", ".pt of PyTorch", ".safetensors", ".hdf5", ".zarr", ".safetensors in shards")
PIPED = [case for case in FILES if not any(what in case for what in ("and more", "user block", "shards"))]


@contextmanager
def stdin_of(content: bytes) -> Iterator[None]:
    kept, end = os.dup(0), piped(content)
    os.dup2(end, 0)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(end)


def without_names(found: Any) -> Any:
    """Return a report without names, and without how much of a tensor its file stores."""
    if isinstance(found, dict):
        left_out = {"name", "input", "output", "dimensions", "not_stored"}
        return {key: without_names(value) for key, value in found.items() if key not in left_out}
    return [without_names(value) for value in found] if isinstance(found, list) else found


def numbers(tensor: str, folder: Path, capfd: pytest.CaptureFixture[str], content: bytes | None = None) -> list[Any]:
    """Return what each command says of a tensor, with the bytes that `normalize` writes."""
    out, reference = str(folder / "out.npy"), str(folder / "reference.npy")
    told: list[Any] = []
    for command in (
        ["stats", tensor, "-s", "all"],
        ["normalize", tensor, "-G", "2", "--dtype", "float64", "-fo", out],
        ["diff", tensor, reference, "--by", "0"],
    ):
        with stdin_of(content or b""):
            status = main([*command, "--format", "json"])
        said = capfd.readouterr()
        assert (status, said.err.replace(KEPT, "")) == (0, ""), command
        told.append(without_names(json.loads(said.out)))
    return [*told, np.load(out).tolist()]


KNOWN: list[Any] = []  # what `expected` returns, which is the same for every test


@pytest.fixture
def expected(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> list[Any]:
    np.save(tmp_path / "reference.npy", X)
    if not KNOWN:
        KNOWN.extend(numbers(str(tmp_path / "reference.npy"), tmp_path, capfd))
    return KNOWN


@pytest.mark.parametrize(
    "case",
    slow_but(CASES, *QUICK),
)
def test_a_file_gives_the_numbers_of_a_plain_npy(
    case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], expected: list[Any]
) -> None:
    file, member, write = CASES[case]
    path = tmp_path / file
    write(path)
    if "and more" not in case:
        assert numbers(str(path), tmp_path, capfd) == expected
    if member is not None:
        assert numbers(f"{path}::{member}", tmp_path, capfd) == expected


@pytest.mark.slow
@pytest.mark.parametrize("case", slow_but(PIPED, ".npy", ".hdf5"))
def test_a_pipe_gives_the_numbers_of_a_plain_npy(
    case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], expected: list[Any]
) -> None:
    file, _, write = CASES[case]
    write(tmp_path / file)
    assert numbers("-", tmp_path, capfd, (tmp_path / file).read_bytes()) == expected


def test_every_suffix_is_a_case_and_is_suggested() -> None:
    suffixes = [suffix for format_ in READ for suffix in format_.suffixes]
    assert list(names.TENSOR_SUFFIXES) == suffixes
    assert {file[file.index(".") :].replace(".weights", "") for file, _, _ in CASES.values()} == set(suffixes)
    assert list(names.OUTPUT_SUFFIXES) == [suffix for format_ in WRITTEN for suffix in format_.written]


@pytest.mark.parametrize("case", FILES)
def test_exactly_one_format_recognizes_a_file(case: str, tmp_path: Path) -> None:
    file, _, write = CASES[case]
    write(tmp_path / file)
    with RawFile(str(tmp_path / file), file) as opened:
        assert [format_ for format_ in FORMATS if format_.recognizes(opened)] == [recognized(opened)]
        assert file.endswith(recognized(opened).suffixes)


def test_the_signature_of_another_format_inside_a_file_does_not_mislead(tmp_path: Path) -> None:
    inside = b"\x89HDF\r\n\x1a\n" * 200
    ours = {"x": entry("U8", [len(inside)], 0, len(inside))}
    content = tensors(json.dumps(ours).ljust(504), inside)
    assert content[512:520] == inside[:8]
    (tmp_path / "x").write_bytes(content)
    with open_source(str(tmp_path / "x")) as source:
        assert (source.shape, source.dtype_name) == ((1600,), "uint8")


@pytest.mark.parametrize(
    ("out", "format_", "path", "member"),
    [
        ("y.npy", ".npy", "y.npy", None),
        ("a.h5::y.NPY", ".npy", "a.h5::y.NPY", None),
        ("y.npy::x", None, "y.npy::x", None),
        ("y.h5", "HDF5", "y.h5", None),
        ("y.HDF5::a::b", "HDF5", "y.HDF5", "a::b"),
        ("y.h5::", "HDF5", "y.h5", ""),
        ("y.nc", None, "y.nc", None),
        ("y\n.h5", "HDF5", "y\n.h5", None),
    ],
)
def test_an_output_is_split_by_the_suffix_of_its_format(
    out: str, format_: str | None, path: str, member: str | None
) -> None:
    found, *rest = written(out)
    assert (found and found.name, rest) == (format_, [path, member])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty (0 bytes)"),
        (
            b"\x93NUM",
            "is neither .npy, .npz, .pt, .safetensors, HDF5 nor .safetensors.index.json (it begins with b'\\x93NUM')",
        ),
        (b"\x80\x04", "is a pickle, which would run code"),
        (LEGACY_PYTORCH + b".", "is a file of PyTorch before version 1.6, a bare pickle"),
    ],
)
@pytest.mark.parametrize("road", ["file", "pipe"])
def test_what_no_format_recognizes_is_refused_alike_by_every_road(
    content: bytes, problem: str, road: str, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InputError) as caught, stdin_of(content):
        open_source(str(tmp_path / "x") if road == "file" else "-")
    assert (caught.value.problem, caught.value.status) == (problem, 3)
