"""Descriptions of an input: a random tensor to draw, and the limits for an input file."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

from gncli.names import MAX_CHUNK, Distribution, shape_text


@dataclass(frozen=True)
class Draw:
    """A tensor to draw: ``--random SHAPE``.

    Parameters
    ----------
    shape : tuple of int
        Its shape.
    dist : str, default: "uniform"
        ``uniform`` on [0, 1) or standard ``normal``.
    seed : int, optional
        The seed of NumPy's default generator; with None a seed is chosen and reported.
    dtype : str, default: "float64"
        ``float16``, ``float32``, ``float64``, ``bfloat16``, ``float8_e4m3fn`` or ``float8_e5m2``.

    Examples
    --------
    >>> str(Draw((64, 16, 112, 112), seed=0))
    '--random 64,16,112,112'
    """

    shape: tuple[int, ...]
    _: KW_ONLY
    dist: Distribution = "uniform"
    seed: int | None = None
    dtype: str = "float64"

    def __str__(self) -> str:
        return f"--random {shape_text(self.shape)}"


class Network(NamedTuple):
    """How objects on stores are read and written.

    Parameters
    ----------
    anonymous : bool
        Whether no credentials are looked for.
    requests : int
        How many requests are in flight at once, for all workers of the process.
    retries : int
        How often a request is sent again that failed for a reason that may pass.
    """

    anonymous: bool = False
    requests: int = 8
    retries: int = 5


ON_NETWORK = Network()
"""The default."""


class Policy(NamedTuple):
    """The limits for an input file.

    Parameters
    ----------
    plugins : bool
        Whether HDF5 may load filter plugins, which are code, from ``HDF5_PLUGIN_PATH``.
    sparse : bool
        Whether a dataset may declare far more than it stores.
    max_chunk : int
        The largest size of an HDF5 chunk in bytes; a whole chunk must fit in memory.
    as_dtype : str, optional
        What the raw elements of a .npy are, whose header does not say it: ``bfloat16``, ``float8_e4m3fn`` or
        ``float8_e5m2``.
    network : Network
        How an object on a store is read.

    Examples
    --------
    >>> Policy(max_chunk=1 << 30).plugins
    False
    """

    plugins: bool = False
    sparse: bool = False
    max_chunk: int = MAX_CHUNK
    as_dtype: str | None = None
    network: Network = ON_NETWORK


STRICT = Policy()
"""The default."""
