"""The one place where an exception of h5py becomes an error of gncli."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gncli.errors import GncliError, InputError


@contextmanager
def calling(name: str, doing: str) -> Iterator[None]:
    """Turn any exception that h5py raises inside into an InputError about `name`.

    Parameters
    ----------
    name : str
        What the error calls the file or dataset.
    doing : str
        What has failed then, as "cannot be listed"; the text of the exception follows in brackets.
    """
    try:
        yield
    except (GncliError, MemoryError):
        raise
    # Any other class is right here. h5py maps libhdf5's error codes to many built-in exceptions, and a damaged file
    # makes its Cython code raise others: AttributeError, IndexError, OverflowError, ... A list is never complete.
    except Exception as error:
        # Not str(error): the text of a KeyError is in quotes.
        text = str(error.args[-1] if error.args else "").partition("\n")[0] or type(error).__name__
        raise InputError(f"{doing} ({text})", subject=name) from error
