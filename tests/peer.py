"""zarr-python and tensorstore in a process of their own: their threads would outlive the tests that fork."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tests.processes import uncovered


class Peer:
    """The other end: what it writes gncli reads, and the other way round."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def _ask(self, *what: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        pickle.dump(what, self._process.stdin)
        self._process.stdin.flush()
        found = pickle.load(self._process.stdout)
        if isinstance(found, str) and found.startswith("Traceback"):
            raise AssertionError(found)
        return found

    def write(self, path: Path, x: NDArray[Any], name: str = "", stored: Any = ..., **given: Any) -> None:
        """Write with zarr-python what `zarr.create_array` is given; `stored` selects the part that is written."""
        self._ask("write", str(path), x, name, stored, given)

    def read(self, path: Path, name: str = "") -> tuple[NDArray[Any], dict[str, Any]]:
        """Return an array and its attributes, as zarr-python reads them."""
        found: tuple[NDArray[Any], dict[str, Any]] = self._ask("read", str(path), name)
        return found

    def tensorstore(self, path: Path, driver: str = "zarr3") -> NDArray[Any] | None:
        """Return an array as tensorstore reads it, bits for dtypes that NumPy lacks; None if it is not installed."""
        found: NDArray[Any] | None = self._ask("tensorstore", str(path), driver)
        return found

    def tensorstore_write(self, path: Path, x: NDArray[Any], driver: str, metadata: dict[str, Any]) -> bool:
        """Write an array with tensorstore; return whether it is installed."""
        return bool(self._ask("tensorstore_write", str(path), x, driver, metadata))


@contextmanager
def peer() -> Iterator[Peer]:
    """Start the other end, and end it."""
    command = [sys.executable, "-m", "tests.peer"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=uncovered()) as process:
        yield Peer(process)
        assert process.stdin
        process.stdin.close()
    assert process.returncode == 0


def _write(path: str, x: NDArray[Any], name: str, stored: Any, given: dict[str, Any]) -> None:
    import zarr

    array = zarr.create_array(path, name=name or None, shape=x.shape, dtype=x.dtype, **given)
    array[stored] = x[stored]


def _read(path: str, name: str) -> Any:
    import zarr

    array: Any = zarr.open_array(path, path=name, mode="r")
    return array[...], dict(array.attrs)


def _opened(path: str, driver: str, **more: Any) -> Any:
    try:
        import tensorstore
    except ImportError:
        return None
    return tensorstore.open({"driver": driver, "kvstore": {"driver": "file", "path": path}, **more}).result()


def _tensorstore(path: str, driver: str) -> Any:
    found = _opened(path, driver)
    if found is None:
        return None
    x = found.read().result()
    return x.view(f"u{x.dtype.itemsize}") if x.dtype.isbuiltin != 1 else x


def _tensorstore_write(path: str, x: NDArray[Any], driver: str, metadata: dict[str, Any]) -> bool:
    opened = _opened(path, driver, metadata=metadata, create=True)
    if opened is None:
        return False
    opened.write(x.view(opened.dtype.numpy_dtype)).result()
    return True


_TASKS: dict[str, Any] = {task.__name__[1:]: task for task in (_write, _read, _tensorstore, _tensorstore_write)}


def _serve() -> None:
    import traceback
    import warnings

    warnings.simplefilter("ignore")
    while True:
        try:
            task, *given = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            found = _TASKS[task](*given)
        except Exception:  # noqa: BLE001  # whatever it is, the test that asked is told
            found = traceback.format_exc()
        pickle.dump(found, sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
