"""What a Zarr array says of itself: ``zarr.json`` of version 3, ``.zarray`` of version 2.

Notes
-----
The text is data, not trust. Every field is checked, and whatever is not known is refused: it could change what the
bytes of a chunk mean. The registries of zarr-python and numcodecs are not asked, since a name in them imports what an
installed package has entered there, and one of the codecs of numcodecs unpickles. URLs and attributes are never
followed.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from gncli.errors import InputError, LimitError
from gncli.io.dtypes import FOREIGN, MAX_NBYTES, MAX_NDIM, check_dtype, holdable, refuse_dtype, refuse_type
from gncli.io.formats.zarr.codecs import BYTES_TO_BYTES, Pipeline, Step
from gncli.kernels.floats import Float

Endian = Literal["<", ">"]

MAX_CHUNKS = 16 << 20  # of an array: 28 bytes each in memory, if all are read
MAX_ELEMENTS_OF_JSON = 1 << 20

NUMBERS = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)))
FLOATS = ("float16", "float32", "float64")
FOREIGN_NAMES: dict[str, Float] = {kind.name: kind for kind in FOREIGN.values()}

_DTYPE_OF_V2 = re.compile(r"[<>|][a-zA-Z][0-9]{0,6}(\[[a-zA-Z0-9]{1,8}\])?")
_TOP = frozenset(
    "zarr_format node_type shape data_type chunk_grid chunk_key_encoding fill_value codecs attributes"
    " storage_transformers dimension_names".split()
)
_TOP_OF_V2 = frozenset("zarr_format shape chunks dtype compressor fill_value order filters dimension_separator".split())


class ShardIndex(NamedTuple):
    """Where the index of a shard lies in its file, and how it is encoded.

    Parameters
    ----------
    first : bool
        Whether it is at the beginning of the file, and not at the end.
    dtype : numpy.dtype
        Of its numbers: 64-bit, of either byte order.
    checked : bool
        Whether a crc32c follows.
    """

    first: bool
    dtype: np.dtype[Any]
    checked: bool


class ArrayMetadata(NamedTuple):
    """What is known of an array.

    Parameters
    ----------
    shape : tuple of int
        Shape of the tensor.
    chunk : tuple of int
        Shape of what is decoded at once: a chunk, or in a shard one of its inner chunks.
    file : tuple of int
        Shape of what a file holds: the chunk, or the shard.
    dtype : numpy.dtype
        The stored dtype, byte order included; integers of its size where NumPy lacks it.
    kind : Float or None
        The dtype, where NumPy lacks it.
    fill : ndarray, shape ()
        What stands for elements that are not stored, as `dtype`.
    pipeline : Pipeline
        How a chunk is encoded.
    shards : ShardIndex or None
        The index of a shard; None where a file is one chunk.
    prefix, separator : str
        What the names of files begin with, and what is between their numbers.
    dimensions : tuple of str
        The names of the axes, empty if none has one.
    """

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    file: tuple[int, ...]
    dtype: np.dtype[Any]
    kind: Float | None
    fill: NDArray[Any]
    pipeline: Pipeline
    shards: ShardIndex | None
    prefix: str
    separator: str
    dimensions: tuple[str, ...]

    def key(self, cell: tuple[int, ...]) -> str:
        """Return the name of the file at this place of the grid of files, as seen from the array.

        Examples
        --------
        >>> import numpy as np
        >>> one = np.zeros(())
        >>> both = ArrayMetadata((4, 4), (2, 2), (2, 2), one.dtype, None, one, Pipeline((), (0, 1)), None, "c", "/", ())
        >>> both.key((1, 0)), both._replace(prefix="", separator=".").key((1, 0)), both.key(())
        ('c/1/0', '1.0', 'c')
        """
        return self.separator.join(filter(None, (self.prefix, *map(str, cell)))) or "0"

    def cell(self, key: str) -> tuple[int, ...] | None:
        """Return the place in the grid of the file of this name; None if it is no chunk's."""
        parts = key.split(self.separator) if self.shape else []
        numbers = parts[1:] if self.prefix and self.shape else parts
        if len(numbers) != len(self.shape) or not all(part.isascii() and part.isdigit() for part in numbers):
            return None
        found = tuple(int(part[:20]) for part in numbers)
        return found if self.key(found) == key else None


def parsed(text: bytes, name: str) -> dict[str, Any]:
    """Return the object of JSON that a file of metadata is.

    Raises
    ------
    InputError
        If it is none, or a key comes twice in it.
    LimitError
        If it has more than `MAX_ELEMENTS_OF_JSON` values.
    """
    if text.count(b",") + text.count(b"[") + text.count(b"{") > MAX_ELEMENTS_OF_JSON:  # before it takes memory
        raise LimitError(f"has metadata of more than {MAX_ELEMENTS_OF_JSON:,} values", subject=name)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in items}) < len(items):
            raise ValueError("a key comes twice")
        return dict(items)

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise InputError(f"has metadata that are not JSON ({error})", subject=name) from error
    if not isinstance(value, dict):
        raise InputError("has metadata that are no object of JSON", subject=name)
    return value


def array_of_v3(text: bytes, name: str, max_chunk: int) -> ArrayMetadata:
    """Return what a ``zarr.json`` of an array says.

    Parameters
    ----------
    text : bytes
        The file.
    name : str
        What errors call the array.
    max_chunk : int
        The largest chunk in bytes.

    Raises
    ------
    InputError
        If it is malformed, not numeric, or says anything that is not known.
    LimitError
        If a chunk is too large, or there are too many.
    """
    meta = _Reader(parsed(text, name), name)
    for key, value in meta.fields.items():
        if key not in _TOP and not (isinstance(value, dict) and value.get("must_understand") is False):
            raise meta.unknown(f"the field {key}")
    if meta.fields.get("storage_transformers"):
        raise meta.unknown("a storage transformer")
    if meta.fields.get("zarr_format") != 3 or meta.fields.get("node_type") != "array":
        meta.fail("zarr_format and node_type are not those of an array of version 3")
    shape = meta.sizes("shape")
    grid, steps = meta.named("chunk_grid")
    if grid != "regular":
        raise meta.unknown(f"the chunk grid {grid}")
    file = meta.chunk(steps.get("chunk_shape"), shape, "chunk_shape")
    kind, dtype = _data_type(meta)
    prefix, separator = _key_encoding(meta)
    codecs = meta.fields.get("codecs")
    if not isinstance(codecs, list):
        meta.fail("codecs are no list")
    steps_of = [meta.name_of(codec, "a codec") for codec in codecs]
    index, chunk = None, file
    if [name for name, _ in steps_of] == ["sharding_indexed"]:
        chunk, steps_of, index = _sharding(meta, steps_of[0][1], file)
    elif any(name == "sharding_indexed" for name, _ in steps_of):
        raise meta.unknown("shards that are encoded again as a whole")
    pipeline, order = _pipeline(meta, steps_of, dtype)
    names = meta.fields.get("dimension_names")
    dtype = dtype.newbyteorder(order)
    fill = _fill(meta, dtype, kind)
    return _checked(
        ArrayMetadata(
            shape, chunk, file, dtype, kind, fill, pipeline, index, prefix, separator, _dimensions(names, shape)
        ),
        name,
        max_chunk,
    )


def array_of_v2(text: bytes, attributes: bytes | None, name: str, max_chunk: int) -> ArrayMetadata:
    """Return what a ``.zarray`` says, and the ``.zattrs`` of the names of its axes; otherwise as `array_of_v3`."""
    meta = _Reader(parsed(text, name), name)
    for key in meta.fields:
        if key not in _TOP_OF_V2:
            raise meta.unknown(f"the field {key}")
    if meta.fields.get("zarr_format") != 2:
        meta.fail("zarr_format is not 2")
    shape = meta.sizes("shape")
    chunk = meta.chunk(meta.fields.get("chunks"), shape, "chunks")
    kind, dtype = _dtype_of_v2(meta)
    order = meta.one_of("order", ("C", "F"))
    separator = meta.one_of("dimension_separator", (".", "/"), ".")
    filters = meta.fields.get("filters")
    if filters is not None and not isinstance(filters, list):
        meta.fail("filters are no list")
    compressor = meta.fields.get("compressor")
    steps = []
    for codec in (*(filters or []), *([] if compressor is None else [compressor])):
        if not isinstance(codec, dict) or not isinstance(codec.get("id"), str):
            meta.fail("a codec has no id")
        steps.append(_step(meta, codec["id"], codec))
    axes = tuple(range(len(shape)))
    pipeline = Pipeline(tuple(steps), axes if order == "C" else axes[::-1])
    known = {} if attributes is None else parsed(attributes, name)
    fill = _fill(meta, dtype, kind)
    dimensions = _dimensions(known.get("_ARRAY_DIMENSIONS"), shape)
    return _checked(
        ArrayMetadata(shape, chunk, chunk, dtype, kind, fill, pipeline, None, "", separator, dimensions),
        name,
        max_chunk,
    )


class _Reader:
    """The fields of an object of JSON, taken one by one."""

    def __init__(self, fields: dict[str, Any], name: str) -> None:
        self.fields, self.name = fields, name

    def fail(self, why: str) -> NoReturn:
        raise InputError(f"has malformed metadata ({why})", subject=self.name)

    def unknown(self, what: str) -> InputError:
        hint = "write it again with zarr-python, without that"
        return InputError(f"has {what}, which is not known", subject=self.name, hint=hint)

    def sizes(self, key: str) -> tuple[int, ...]:
        return self.integers(self.fields.get(key), key)

    def integers(self, value: Any, key: str) -> tuple[int, ...]:
        if not isinstance(value, list) or len(value) > MAX_NDIM:
            self.fail(f"{key} is no list of at most {MAX_NDIM} sizes")
        if not all(type(size) is int and 0 <= size <= MAX_NBYTES for size in value):
            self.fail(f"{key} has what is no size")
        return tuple(value)

    def chunk(self, value: Any, shape: tuple[int, ...], key: str) -> tuple[int, ...]:
        """Return the shape of a chunk; an axis without entries may have chunks without any."""
        steps = self.integers(value, key)
        if len(steps) != len(shape):
            self.fail(f"{key} has {len(steps)} axes, and the array {len(shape)}")
        if any(not step and extent for step, extent in zip(steps, shape, strict=True)):
            self.fail(f"{key} is {list(steps)}: a chunk without elements")
        return tuple(max(1, step) for step in steps)

    def named(self, key: str) -> tuple[str, dict[str, Any]]:
        return self.name_of(self.fields.get(key), key)

    def name_of(self, value: Any, what: str) -> tuple[str, dict[str, Any]]:
        """Return the name and the configuration of an extension point, as version 3 has them everywhere."""
        match {"name": value} if isinstance(value, str) else value:
            case {"name": str(name), **rest} if rest.keys() <= {"configuration", "must_understand"}:
                configuration = rest.get("configuration", {})
            case _:
                name, configuration = "", None
        if not isinstance(configuration, dict):
            self.fail(f"{what} has no name or no configuration")
        return name, configuration

    def one_of(self, key: str, known: tuple[str, ...], default: str | None = None) -> str:
        value = self.fields.get(key, default)
        if value not in known:
            self.fail(f"{key} is not one of {', '.join(known)}")
        return str(value)


def _data_type(meta: _Reader) -> tuple[Float | None, np.dtype[Any]]:
    called, _ = meta.named("data_type")
    if called in FOREIGN_NAMES:
        kind = FOREIGN_NAMES[called]
        return kind, np.dtype(kind.stored)
    if called in NUMBERS or called in FLOATS:
        return None, np.dtype(called)
    if called.startswith("complex"):
        raise refuse_dtype("c", 0, called, meta.name)
    raise refuse_type(called, meta.name)


def _dtype_of_v2(meta: _Reader) -> tuple[Float | None, np.dtype[Any]]:
    called = meta.fields.get("dtype")
    if isinstance(called, str) and called in FOREIGN_NAMES:
        kind = FOREIGN_NAMES[called]
        return kind, np.dtype(kind.stored).newbyteorder("<")
    if isinstance(called, list):
        raise refuse_dtype("V", 0, json.dumps(called), meta.name)
    if not isinstance(called, str) or not _DTYPE_OF_V2.fullmatch(called):
        meta.fail("dtype is none of NumPy's")
    try:
        dtype = np.dtype(called)
    except (TypeError, ValueError):
        raise refuse_type(called, meta.name) from None
    return None, check_dtype(dtype, meta.name)


def _key_encoding(meta: _Reader) -> tuple[str, str]:
    name, configuration = meta.named("chunk_key_encoding")
    known = {"default": ("c", "/"), "v2": ("", ".")}
    if name not in known:
        raise meta.unknown(f"the chunk key encoding {name}")
    prefix, separator = known[name]
    separator = configuration.get("separator", separator)
    if separator not in ("/", ".") or configuration.keys() - {"separator"}:
        meta.fail("the separator of chunk_key_encoding is neither / nor .")
    return prefix, separator


def _sharding(
    meta: _Reader, configuration: dict[str, Any], shard: tuple[int, ...]
) -> tuple[tuple[int, ...], list[tuple[str, dict[str, Any]]], ShardIndex]:
    """Return the shape and the codecs of an inner chunk, and the index."""
    if configuration.keys() - {"chunk_shape", "codecs", "index_codecs", "index_location"}:
        raise meta.unknown(f"a codec sharding_indexed with {', '.join(sorted(configuration))}")
    chunk = meta.chunk(configuration.get("chunk_shape"), shard, "chunk_shape of the shards")
    if any(outer % inner for outer, inner in zip(shard, chunk, strict=True)):
        meta.fail(f"shards of {list(shard)} do not consist of chunks of {list(chunk)}")
    place = configuration.get("index_location", "end")
    lists = [configuration.get(key) for key in ("codecs", "index_codecs")]
    if place not in ("start", "end") or not all(isinstance(each, list) for each in lists):
        meta.fail("sharding_indexed has no codecs, or no place for its index")
    inner, outer = ([meta.name_of(codec, "a codec") for codec in each or []] for each in lists)
    names = [name for name, _ in outer]
    if names not in (["bytes"], ["bytes", "crc32c"]):
        raise meta.unknown(f"an index of shards encoded by {', '.join(names) or 'nothing'}")
    if any(name == "sharding_indexed" for name, _ in inner):
        raise meta.unknown("shards within shards")
    dtype = np.dtype(np.uint64).newbyteorder(_endian(meta, outer[0][1]))
    return chunk, inner, ShardIndex(place == "start", dtype, names[1:] == ["crc32c"])


def _endian(meta: _Reader, configuration: dict[str, Any]) -> Endian:
    known: dict[str | None, Endian] = {"little": "<", "big": ">", None: "<"}  # a dtype of one byte has none
    endian = configuration.get("endian")
    if not (endian is None or isinstance(endian, str)) or endian not in known or configuration.keys() - {"endian"}:
        meta.fail("the codec bytes is neither little nor big")
    return known[endian]


def _pipeline(meta: _Reader, codecs: list[tuple[str, dict[str, Any]]], dtype: np.dtype[Any]) -> tuple[Pipeline, Endian]:
    """Return how a chunk is encoded, and its byte order."""
    rank = len(meta.sizes("shape"))
    axes = tuple(range(rank))
    todo = list(codecs)
    while todo and todo[0][0] == "transpose":
        order = meta.integers(todo.pop(0)[1].get("order"), "the order of a transposition")
        if sorted(order) != list(range(rank)):
            meta.fail("the order of a transposition is none of its axes")
        axes = tuple(axes[axis] for axis in order)
    if not todo or todo[0][0] != "bytes":
        raise meta.unknown(f"the codec {todo[0][0]}") if todo else InputError("has no codec bytes", subject=meta.name)
    endian = todo.pop(0)[1]
    if dtype.itemsize > 1 and "endian" not in endian:
        meta.fail("the codec bytes does not say the byte order")
    return Pipeline(tuple(_step(meta, *codec) for codec in todo), axes), _endian(meta, endian)


def _step(meta: _Reader, codec: str, configuration: dict[str, Any]) -> Step:
    called = codec.removeprefix("numcodecs.")
    if called not in BYTES_TO_BYTES:
        raise meta.unknown(f"the codec {codec}")
    value = configuration.get("elementsize", 4)
    if type(value) is not int or not 1 <= value <= 256:
        meta.fail("the codec shuffle has no size of elements")
    return Step(called, value)


def _fill(meta: _Reader, dtype: np.dtype[Any], kind: Float | None) -> NDArray[Any]:
    """Return the fill value as it would be stored; JSON's null, of version 2, is read as 0, as zarr-python does."""
    value: Any = meta.fields.get("fill_value")
    if value is None and meta.fields["zarr_format"] == 2:
        return np.zeros((), dtype)
    floating = dtype.kind == "f" or kind is not None
    if floating and isinstance(value, str) and re.fullmatch(f"0x[0-9a-fA-F]{{{2 * dtype.itemsize}}}", value):
        return np.array(int(value, 16), f"u{dtype.itemsize}").view(dtype.newbyteorder("=")).astype(dtype)
    if floating and isinstance(value, str):
        value = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(value)
    number = isinstance(value, float | int) and (isinstance(value, bool) is (dtype.kind == "b"))
    if not number or not (dtype.kind == "b" or _fits(value, dtype, floating)):
        meta.fail(f"fill_value is none of {kind.name if kind else dtype.name}")
    if kind is None:
        with np.errstate(over="ignore"):
            return np.array(float(value) if floating else int(value)).astype(dtype)
    raw = np.empty(1, kind.stored)
    kind.narrow(np.array([value], np.float32), raw)
    return raw.astype(dtype).reshape(())


def _fits(value: Any, dtype: np.dtype[Any], floating: bool) -> bool:
    if floating:
        return isinstance(value, float) or bool(abs(value) < 1 << 1023)
    limits = np.iinfo(dtype)
    return bool(value == value // 1 and int(limits.min) <= value <= int(limits.max))


def _dimensions(names: Any, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the names of the axes; a list that does not fit the axes names none, as damage there keeps nobody out."""
    if not isinstance(names, list) or len(names) != len(shape) or not any(names):
        return ()
    if not all(name is None or isinstance(name, str) for name in names):
        return ()
    return tuple(name or "" for name in names)


def _checked(meta: ArrayMetadata, name: str, max_chunk: int) -> ArrayMetadata:
    """Return the metadata, unless NumPy could not hold the tensor, or a chunk or their number is too large."""
    itemsize = meta.dtype.itemsize
    if not holdable(meta.shape, itemsize):
        raise InputError(f"has a shape that is too large for any array: {list(meta.shape)}", subject=name)
    nbytes = math.prod(meta.chunk) * itemsize
    if nbytes > max_chunk and 0 not in meta.shape:
        hint = f"--max-chunk {nbytes} reads them, each whole in memory"
        raise LimitError(f"has chunks of {nbytes:,} bytes; the limit is {max_chunk:,}", subject=name, hint=hint)
    count = math.prod(-(-size // step) for size, step in zip(meta.shape, meta.chunk, strict=True))
    inside = math.prod(outer // inner for outer, inner in zip(meta.file, meta.chunk, strict=True))
    if max(count, inside) > MAX_CHUNKS and 0 not in meta.shape:
        problem = f"has {max(count, inside):,} chunks; the limit is {MAX_CHUNKS:,}"
        raise LimitError(problem, subject=name, hint="write it again in larger chunks")
    return meta
