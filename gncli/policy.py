"""What a user may allow in an input that would else be refused, as one value from the command line down to `io`."""

from __future__ import annotations

from typing import NamedTuple


class Policy(NamedTuple):
    """What an input may do and ask for.

    Parameters
    ----------
    plugins : bool
        Whether HDF5 may load filter plugins, which are code, from where ``HDF5_PLUGIN_PATH`` says.
    sparse : bool
        Whether a dataset may declare far more than it stores.
    max_chunk : int
        The most bytes of one HDF5 chunk: it has to be in memory whole.

    Examples
    --------
    >>> Policy(max_chunk=1 << 30).plugins
    False
    """

    plugins: bool = False
    sparse: bool = False
    max_chunk: int = 64 << 20


STRICT = Policy()
"""What nobody asked otherwise for."""
