"""What the pickle of a PyTorch file says, without unpickling it: nothing is imported, called or built.

Notes
-----
A pickle is a program for a stack machine. `pickletools` of the standard library knows the operations, and reads their
arguments without looking up a name. The machine here knows plain values and containers; a global name is a symbol; and
a call is defined for three things alone: the rebuilding of a tensor, an empty OrderedDict, and the reference to a
storage. The result of any other call is something to be passed over, whatever is done to it later.

Operations that protocols 2 to 5 do not write are refused. No value is compared, hashed or printed, so that nested and
shared values cost what their bytes cost.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from gncli.errors import InputError, LimitError
from gncli.io.dtypes import MAX_NBYTES, MAX_NDIM
from gncli.io.source import MAX_MEMBERS

MAX_OPERATIONS = 4_000_000  # 40 for each of `MAX_MEMBERS` tensors; each may cost 100 bytes of memory
MAX_NAME = 500  # characters of the path of a value

_CALLS_INSIDE = ("torch._tensor._rebuild_from_type", "torch._tensor._rebuild_from_type_v2")
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_STORAGES = {
    "torch.BoolStorage": ("bool", 1),
    "torch.ByteStorage": ("uint8", 1),
    "torch.CharStorage": ("int8", 1),
    "torch.ShortStorage": ("int16", 2),
    "torch.IntStorage": ("int32", 4),
    "torch.LongStorage": ("int64", 8),
    "torch.HalfStorage": ("float16", 2),
    "torch.BFloat16Storage": ("bfloat16", 2),
    "torch.FloatStorage": ("float32", 4),
    "torch.DoubleStorage": ("float64", 8),
    "torch.ComplexFloatStorage": ("complex64", 8),
    "torch.ComplexDoubleStorage": ("complex128", 16),
    "torch.storage.UntypedStorage": (None, 1),
}


def _global_name(stream: io.BytesIO) -> str:
    """Return the argument of GLOBAL: a module and a name in it, of a line each."""
    lines = [stream.readline().decode() for _ in range(2)]
    if not all(line.endswith("\n") for line in lines):
        raise ValueError("it ends in a name")
    return ".".join(line[:-1] for line in lines)


_OPERATIONS: dict[bytes, tuple[str, Callable[[io.BytesIO], Any] | None]] = {b"c": ("GLOBAL", _global_name)}
_OPERATIONS |= {
    operation.code.encode("latin-1"): (operation.name, None if operation.arg is None else operation.arg.reader)
    for operation in pickletools.opcodes
    if operation.arg is None or operation.arg.n != pickletools.UP_TO_NEWLINE
}
"""By their byte: the name, and what reads the argument. Arguments of text are of protocol 0, but for that of GLOBAL."""


class Symbol(NamedTuple):
    """A global name, such as ``torch._utils._rebuild_tensor_v2``; nobody looks it up."""

    name: str


class Other(NamedTuple):
    """What is passed over; `what` names it for an error."""

    what: str


class Storage(NamedTuple):
    """A record of the archive: its name after ``data/``, the dtype of its elements if it has one, its size."""

    key: str
    dtype: str | None
    nbytes: int


class Tensor(NamedTuple):
    """A view of a storage.

    Parameters
    ----------
    storage : Storage
        Where its elements are.
    dtype : str
        Their dtype, as PyTorch calls it.
    offset : int
        Of the first element, in elements.
    shape, strides : tuple of int
        Sizes of the axes, and how far the next element along each is, in elements.
    negated : bool
        Whether PyTorch negates the elements when they are used.
    """

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    negated: bool


class Pairs:
    """A dict, as the list of its pairs: what is hashed and compared could be made to take long."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items: list[tuple[object, object]] = []


class Contents(NamedTuple):
    """The tensors of a pickle by their path, such as ``state_dict.layer1.weight``, and what else it holds by its."""

    tensors: dict[str, Tensor]
    others: dict[str, Other]


def contents(data: bytes, name: str) -> Contents:
    """Return what a pickle holds.

    Parameters
    ----------
    data : bytes
        The pickle.
    name : str
        The file as the user typed it.

    Raises
    ------
    InputError
        If it is damaged, or no pickle of PyTorch.
    LimitError
        If it has more operations, values or levels than gncli reads.
    """
    machine, position, ended, count = _Machine(), 0, False, 0
    stream = io.BytesIO(data)
    try:
        while not ended:
            position, count = stream.tell(), count + 1
            if count > MAX_OPERATIONS:
                raise LimitError(f"has a pickle of more than {MAX_OPERATIONS:,} operations", subject=name)
            code = stream.read(1)
            if code not in _OPERATIONS:
                raise ValueError(f"{code!r} is no operation of the protocols 2 to 5" if code else "it has no end")
            operation, read = _OPERATIONS[code]
            machine.step(operation, read(stream) if read else None)
            ended = operation == "STOP"
        if position + 1 < len(data) or machine.marks or len(machine.stack) != 1:
            raise ValueError("it does not end where it should")
    except (IndexError, KeyError, TypeError, ValueError) as error:
        why = str(error) if type(error) is ValueError else "an operand is missing, or of another type"
        raise InputError(f"is damaged: byte {position:,} of its pickle: {why[:80]}", subject=name) from error
    return _found(machine.stack[0], name)


class _Machine:
    """The stack machine of a pickle; IndexError, KeyError, TypeError or ValueError say that the program is wrong."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.marks: list[list[object]] = []
        self._memo: dict[int, object] = {}

    def step(self, name: str, argument: Any) -> None:
        """Carry out one operation, which `pickletools` names."""
        stack = self.stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "LONG4" | "BINFLOAT":
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                stack.append(argument)
            case "SHORT_BINBYTES" | "BINBYTES" | "BINBYTES8" | "BYTEARRAY8":
                stack.append(argument)
            case "MARK":
                self.marks.append(stack)
                self.stack = []
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._to_mark()
            case "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                self._memo[len(self._memo) if argument is None else argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append(Pairs())
            case "EMPTY_SET":
                stack.append(Other("a set"))
            case "FROZENSET":
                self._to_mark()
                self.stack.append(Other("a set"))
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name.removeprefix("TUPLE").replace("EMPTY_TUPLE", "0"))
                stack.append(tuple([stack.pop() for _ in range(count)][::-1]))
            case "TUPLE":
                values = tuple(self._to_mark())
                self.stack.append(values)
            case "APPEND" | "SETITEM":
                count = 1 + (name == "SETITEM")
                self._put([stack.pop() for _ in range(count)][::-1], keyed=count == 2)
            case "APPENDS" | "ADDITEMS" | "SETITEMS":
                self._put(self._to_mark(), keyed=name == "SETITEMS")
            case "GLOBAL":
                stack.append(Symbol(argument))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(Symbol(f"{_checked(module, str)}.{_checked(attribute, str)}"))
            case "REDUCE":
                arguments, function = _checked(stack.pop(), tuple), stack.pop()
                stack.append(_called(function.name, arguments) if type(function) is Symbol else Other("an object"))
            case "NEWOBJ" | "NEWOBJ_EX":
                for _ in range(1 + (name == "NEWOBJ_EX")):
                    stack.pop()
                stack.append(Other(f"an object of {_checked(stack.pop(), Symbol).name[:80]}"))
            case "BUILD":  # attributes of an object, or of an OrderedDict
                stack.pop()
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case _:
                raise ValueError(f"{name} is no operation that torch.save writes")

    def _to_mark(self) -> list[object]:
        """Return what was put on the stack since the last mark, and go on before the mark."""
        values, self.stack = self.stack, self.marks.pop()
        return values

    def _put(self, values: list[object], *, keyed: bool) -> None:
        """Add values to the container on the stack; of what is passed over, they are passed over too."""
        target = self.stack[-1]
        if keyed and len(values) % 2:
            raise ValueError("a dict has a key without a value")
        if type(target) is Pairs and keyed:
            target.items += zip(values[::2], values[1::2], strict=True)
        elif type(target) is list and not keyed:
            target += values
        else:
            _checked(target, Other)


def _checked(value: object, kind: type[Any]) -> Any:
    """Return `value`, which is of exactly that type, or raise TypeError."""
    if type(value) is not kind:
        raise TypeError(f"{type(value)} is not {kind}")
    return value


def _storage(reference: object) -> Storage | Other:
    """Return the storage that a persistent id refers to."""
    match reference:
        case ("storage", Symbol(kind), str(key), _, int(size)) if kind in _STORAGES and 0 <= size <= MAX_NBYTES:
            dtype, itemsize = _STORAGES[kind]
            return Storage(key, dtype, size * itemsize)
    return Other("a reference that is no storage of numbers")


def _called(function: str, arguments: tuple[Any, ...]) -> object:
    """Return the result of a call, if it is one of the few that are defined."""
    while function in _CALLS_INSIDE and len(arguments) > 2:  # the class of the tensor, and its attributes, do not count
        function, arguments = _checked(arguments[0], Symbol).name, _checked(arguments[2], tuple)
    match function, arguments:
        case "collections.OrderedDict", ():
            return Pairs()
        case name, (parameter, *_) if name in _PARAMETERS:
            return parameter
        case "torch._utils._rebuild_tensor", (storage, offset, shape, strides):
            return _tensor(storage, None, offset, shape, strides, [])
        case "torch._utils._rebuild_tensor_v2", (storage, offset, shape, strides, _, _, *metadata):
            return _tensor(storage, None, offset, shape, strides, metadata)
        case "torch._utils._rebuild_tensor_v3", (storage, offset, shape, strides, _, _, Symbol(dtype), *metadata):
            return _tensor(storage, dtype.removeprefix("torch."), offset, shape, strides, metadata)
    return Other(f"what {function[:80]} makes")


def _tensor(
    storage: Any, dtype: str | None, offset: Any, shape: Any, strides: Any, metadata: list[Any]
) -> Tensor | Other:
    """Return a view of a storage."""
    if type(storage) is Other:
        return storage
    own: str | None = _checked(storage, Storage).dtype
    dtype = own if dtype is None else dtype
    numbers = [offset, *_checked(shape, tuple), *_checked(strides, tuple)]
    if not all(type(number) is int and 0 <= number <= MAX_NBYTES for number in numbers) or dtype is None:
        raise ValueError("a tensor has an offset, a size or a stride that is none, or no dtype")
    if len(shape) != len(strides) or len(shape) > MAX_NDIM:
        raise ValueError(f"a tensor has {len(shape):,} sizes and {len(strides):,} strides")
    bits = metadata[0].items if metadata and type(metadata[0]) is Pairs else []
    negated = any(type(key) is str and key == "neg" and value is True for key, value in bits)
    return Tensor(storage, dtype, numbers[0], shape, strides, negated)


def _found(root: object, name: str) -> Contents:
    """Return the tensors and the other values of a tree by their path; values alone in a container count as one."""
    found = Contents({}, {})
    left, looked_at = [("", root)], 0
    while left:
        path, value = left.pop()
        if type(value) is Tensor:
            if path in found.tensors:
                raise InputError(f"has more than one tensor of the name {path}", subject=name)
            found.tensors[path] = value
        elif type(value) in (list, tuple, Pairs):
            items = list(_items(value))
            looked_at += len(items)
            if any(type(item) in (list, tuple, Pairs, Tensor, Other) for _, item in items):
                left += [(f"{path}.{key}" if path else key, item) for key, item in reversed(items)]
            elif items:
                found.others[path] = Other("plain values")
        else:
            found.others[path] = value if type(value) is Other else Other("a plain value")
        if looked_at > MAX_OPERATIONS or len(found.tensors) + len(found.others) > MAX_MEMBERS:
            raise LimitError(f"has more than {MAX_MEMBERS:,} tensors and other values", subject=name)
        if left and len(left[-1][0]) > MAX_NAME:
            raise LimitError(f"has names of more than {MAX_NAME:,} characters", subject=name)
    return found


def _items(value: Any) -> Iterator[tuple[str, object]]:
    """Yield the items of a container with their keys, as text."""
    pairs: Iterable[tuple[Any, object]] = value.items if type(value) is Pairs else enumerate(value)
    for place, (key, item) in enumerate(pairs):
        plain = type(key) is str or (type(key) in (int, bool) and abs(key) <= MAX_NBYTES)
        yield str(key)[: MAX_NAME + 1] if plain else f"[{place}]", item
