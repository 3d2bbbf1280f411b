"""Zarr: arrays in a folder, a file per chunk or per shard of chunks; versions 2 and 3.

`metadata` reads what an array says of itself, `codecs` undoes and does the encoding of a chunk, `store` is the folder,
`objects` a folder on an object store, `reading` and `writing` are the tensors in it.
"""

from gncli.errors import InputError
from gncli.inputs import Policy
from gncli.io.formats.zarr.reading import ZarrStore
from gncli.io.formats.zarr.store import FolderStore
from gncli.io.formats.zarr.writing import check_replaceable, zarr_sink
from gncli.io.urls import is_url, parsed

__all__ = ["ZarrStore", "check_replaceable", "zarr_sink", "zarr_store"]


def zarr_store(path: str, name: str, policy: Policy) -> ZarrStore:
    """Return the arrays of a folder, or of the prefix that a URL names.

    Raises
    ------
    InputError
        If a prefix is no Zarr store, or cannot be read.
    """
    if not is_url(path):
        return ZarrStore(FolderStore(path, name), policy)
    from gncli.io.formats.zarr.objects import ObjectStore  # only who names a store needs it
    from gncli.io.remote import remote_of

    store = ObjectStore(remote_of(parsed(path)[0], policy.network), name)
    if store.kind("") is None:
        hint = "name the store itself, and an array in it as STORE::/group/array"
        raise InputError("is no Zarr store: it has no zarr.json, .zarray or .zgroup", subject=name, hint=hint)
    return ZarrStore(store, policy)
