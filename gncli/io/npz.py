"""The .npz format, as far as it is written: several arrays in one zip archive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.io.atomic import AtomicFile, writing


class NpzSink:
    """Several small arrays for one file, which appears whole, on `commit`.

    Parameters
    ----------
    file : AtomicFile
        The file, begun.
    """

    def __init__(self, file: AtomicFile) -> None:
        self.file = file
        self.name = file.name

    def write(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write the arrays under their names, once."""
        with writing(self.name), open(self.file.fd, "wb", closefd=False) as out:
            np.savez(out, allow_pickle=False, **dict(arrays))

    def commit(self) -> None:
        """Make the file visible under its name, whole."""
        self.file.commit()

    def abort(self) -> None:
        """Remove what was begun."""
        self.file.abort()
