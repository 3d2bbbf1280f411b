"""Zarr: arrays in a folder, a file per chunk or per shard of chunks; versions 2 and 3.

`metadata` reads what an array says of itself, `codecs` undoes and does the encoding of a chunk, `store` is the folder,
`reading` and `writing` are the tensors in it.
"""

from gncli.io.formats.zarr.reading import ZarrStore
from gncli.io.formats.zarr.writing import check_replaceable, zarr_sink

__all__ = ["ZarrStore", "check_replaceable", "zarr_sink"]
