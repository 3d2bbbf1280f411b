"""Damaged archives, one table per format: the bytes, the error that refuses them, and a part of what it says."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

from gncli.errors import GncliError, InputError, LimitError
from tests.archives import ARRAY, NPY, Packed, entry, tensors, wide, zipped
from tests.pickles import Call, Name, Raw, Stored, pickled, storage, torch_file, view

FULL = 0xFFFFFFFF
TORN = Packed(method=8).stored()
SIZE = len(NPY)
DATA = ARRAY.tobytes()
HUGE = 1 << 62
ONE = {"x": entry()}
WORDS = json.dumps(entry())


def wide_extra(*sizes: int, kind: int = 1) -> bytes:
    return struct.pack(f"<2H{len(sizes)}Q", kind, 8 * len(sizes), *sizes)


def both(**changed: Any) -> dict[str, Any]:
    return {"local": changed, "central": changed}


NPZ_FILES: dict[str, tuple[bytes, type[GncliError], str]] = {
    "encrypted": (zipped(Packed(central={"flags": 1})), InputError, "x.npz: is encrypted; extract it"),
    "strongly encrypted": (zipped(Packed(central={"flags": 64})), InputError, "x.npz: is encrypted"),
    "encrypted by its own header": (zipped(Packed(local={"flags": 1})), InputError, "where its directory says"),
    "bzip2": (zipped(Packed(method=12)), InputError, "is compressed by zip method 12 (bzip2), which is not read; np.s"),
    "an unknown method": (zipped(Packed(method=77)), InputError, "by zip method 77, which is not read"),
    "another method here than there": (zipped(Packed(local={"method": 8})), InputError, "where its directory says"),
    "another name": (zipped(Packed(local={"name": b"b.npy"})), InputError, "does not have the member where"),
    "a longer name": (zipped(Packed(local={"name": b"a.npyy"})), InputError, "does not have the member where"),
    "another size": (zipped(Packed(local={"size": 5})), InputError, "does not have the member where"),
    "another stored size": (zipped(Packed(local={"stored": 5})), InputError, "does not have the member where"),
    "another checksum": (zipped(Packed(local={"crc": 5})), InputError, "does not have the member where"),
    "no member there": (zipped(Packed(central={"at": 2}), gap=b"xx"), InputError, "does not have"),
    "a name that reaches out": (
        zipped(Packed(name="a" * 9000, central={"stored": 0, "size": 0}, body=b"", local={"name": b""})),
        InputError,
        "overlap, or lie outside",
    ),
    "an extra field that reaches out": (
        zipped(Packed(local={"extra": bytes(8)} | both(stored=SIZE)["local"], central={"stored": SIZE}, body=NPY[:-8])),
        InputError,
        "has a member that reaches into the next one",
    ),
    "stored in two sizes": (
        zipped(Packed(**both(size=SIZE + 1)), gap=b"xxx"),
        InputError,
        f"stores {SIZE:,} bytes of a member of {SIZE + 1:,}",
    ),
    "two of a name": (zipped(Packed(), Packed()), InputError, "has more than one member a.npy; write it again"),
    "two of a name without its suffix": (
        zipped(Packed(".npy"), Packed(".npy.npy")),
        InputError,
        "has more than one member .npy",
    ),
    "members in one place": (
        zipped(Packed(), Packed("b.npy", central={"at": 0})),
        InputError,
        "has members that overlap",
    ),
    "members that overlap": (zipped(Packed(), Packed("b.npy", central={"at": 9})), InputError, "members that overlap"),
    "a member in the directory": (zipped(Packed(central={"at": 99999})), InputError, "overlap, or lie outside it"),
    "a member over the end": (zipped(Packed(**both(stored=SIZE + 1, size=SIZE + 1))), InputError, "overlap, or lie"),
    "no end": (zipped(Packed())[:-22], InputError, "has no end: it is truncated, or bytes follow it"),
    "bytes after the end": (zipped(Packed(), tail=b"x"), InputError, "has no end: it is truncated, or bytes follow"),
    "bytes before": (b"PK\3\4" + zipped(Packed()), InputError, "has a directory of"),
    "an end in the comment": (zipped(Packed(), comment=zipped()), InputError, "has a directory of 0 bytes at 0, and"),
    "several files": (zipped(Packed(), disk=1), InputError, "is one part of a zip archive in several files"),
    "several files, first": (zipped(Packed(), first=1), InputError, "is one part of a zip archive"),
    "several files, entries": (zipped(Packed(), here=0), InputError, "is one part of a zip archive"),
    "a member of another file": (zipped(Packed(central={"disk": 3})), InputError, "directory that makes no sense"),
    "a directory elsewhere": (zipped(Packed(), at=3), InputError, "bytes at 3, and its end at"),
    "a directory too short": (zipped(Packed(), size=7), InputError, "has a directory of 7 bytes at"),
    "too few members": (zipped(Packed(), here=2, count=2), InputError, "has 1 members, and its end says 2"),
    "too many members": (zipped(Packed(), here=0, count=0), InputError, "has 1 members, and its end says 0"),
    "a directory of nothing": (
        zipped(Packed(), here=65534, count=65534, size=22, central=bytes(22)),
        InputError,
        "has a directory that is cut",
    ),
    "too long a directory": (
        wide(Packed(), count=100_001, here=100_001),
        LimitError,
        "has a directory of 100,001 members and 51 bytes; the limits are 100,000 and 67,108,864",
    ),
    "a cut entry": (zipped(Packed(), central=b"PK\1\2", size=4), InputError, "has a directory that is cut"),
    "no entry": (zipped(Packed(central={"magic": b"PK\1\3"})), InputError, "has a directory that makes no sense"),
    "an entry over the end": (
        zipped(Packed(), central=b"PK\1\2" + bytes(24) + b"\x09" + bytes(17), size=46),
        InputError,
        "has a directory that makes no sense",
    ),
    "no place of 64 bits": (zipped(Packed(), count=0xFFFF, here=0xFFFF), InputError, "its end says 65,535"),
    "no place of 64 bits at all": (zipped(size=FULL), InputError, "has a directory of 4,294,967,295 bytes"),
    "an end of 64 bits elsewhere": (wide(Packed(), end=9), InputError, "has no end of 64 bits where it says"),
    "an end of 64 bits after it": (wide(Packed(), end=1 << 40), InputError, "has no end of 64 bits where it says"),
    "an end of 64 bits of another length": (wide(Packed(), length=45), InputError, "has no end of 64 bits where"),
    "ends that disagree": (wide(Packed(), disk=1), InputError, "has two ends that disagree"),
    "a directory past all ends": (wide(Packed(), at=1 << 63), InputError, "has a directory of"),
    "no size of 64 bits": (zipped(Packed(central={"size": FULL})), InputError, "whose size of 64 bits is missing"),
    "half a size of 64 bits": (
        zipped(Packed(central={"size": FULL, "stored": FULL, "extra": wide_extra(SIZE)})),
        InputError,
        "whose size of 64 bits is missing",
    ),
    "a cut size of 64 bits": (
        zipped(Packed(central={"size": FULL, "extra": wide_extra(SIZE)[:-1]})),
        InputError,
        "whose size of 64 bits is missing",
    ),
    "no .npy": (zipped(Packed(data=b"hello world")), InputError, "is not a .npy file (it begins with b'hello "),
    "a .npy cut": (zipped(Packed(data=NPY[:-1])), InputError, "is truncated: the header declares 24 bytes"),
    "a .npy cut in its header": (zipped(Packed(data=NPY[:50])), InputError, "ends inside the .npy header"),
    "a .npy grown": (zipped(Packed(data=NPY + b"x")), InputError, "has bytes after the array: the header declares 24"),
    "a deflated .npy cut": (zipped(Packed(data=NPY[:-1], method=8)), InputError, "is truncated: the header declares"),
    "a deflated .npy grown": (zipped(Packed(data=NPY + b"x", method=8)), InputError, "has bytes after the array"),
    "a wrong checksum": (
        zipped(Packed(method=8, **both(crc=1))),
        InputError,
        f"does not have the checksum declared ({zlib.crc32(NPY):08x}, not 00000001)",
    ),
    "no deflate": (zipped(Packed(method=8, body=b"\xff" * 9)), InputError, "cannot be inflated (Error -3"),
    "nothing deflated": (zipped(Packed(method=8, body=b"")), InputError, "declared, 0 come out"),
    "deflated data cut": (
        zipped(Packed(method=8, body=TORN[:-9])),
        InputError,
        f"x.npz: is truncated: {SIZE:,} bytes are declared",
    ),
    "deflated data cut at the end": (zipped(Packed(method=8, body=TORN[:-1])), InputError, "does not end"),
    "deflated data that go on": (zipped(Packed(method=8, body=TORN + b"xx")), InputError, "does not end where it"),
    "deflated data that go on far": (
        zipped(Packed(method=8, body=TORN + bytes(1 << 17))),
        InputError,
        "does not end where it should",
    ),
    "more than declared": (
        zipped(Packed(method=8, body=Packed(data=NPY + bytes(9), method=8).stored())),
        InputError,
        f"inflates to more than the {SIZE:,} bytes declared",
    ),
    "a bomb": (
        zipped(Packed(method=8, **both(size=FULL, extra=wide_extra(5 << 30)))),
        LimitError,
        f"declares 5,368,709,120 bytes and stores {len(TORN)}; --allow-sparse reads it",
    ),
}

SAFETENSORS_FILES: dict[str, tuple[bytes, type[GncliError], str]] = {
    "a length beyond the file": (tensors(ONE, length=99_999), InputError, "header is 99,999 bytes long, the file 73"),
    "a length of none": (
        tensors(ONE, DATA, length=0),
        InputError,
        "header is not JSON of one object a tensor (byte 1: b'')",
    ),
    "a header cut short": (tensors(ONE, DATA, length=20), InputError, "is not JSON of one object a tensor (byte 1"),
    "an array": (tensors('{"x": []}'), InputError, "is not JSON of one object a tensor"),
    "an object in an object": (tensors('{"x": {"a": {}}}'), InputError, "is not JSON of one object a tensor"),
    "null for a tensor": (
        tensors('{"x": null}'),
        InputError,
        "does not say dtype, shape and data_offsets alone ('null')",
    ),
    "no separator": (tensors('{"x": {} "y": {}}'), InputError, "is not JSON of one object a tensor"),
    "a comma at the end": (
        tensors('{"x": ?,}'.replace("?", WORDS), DATA),
        InputError,
        "is not JSON of one object a tensor (byte 65",
    ),
    "two objects": (tensors('{"x": ?}{}'.replace("?", WORDS), DATA), InputError, "has more than one object (byte 65"),
    "bytes in the padding": (tensors("{}\0"), InputError, "has more than one object (byte 2)"),
    "an unknown escape": (tensors('{"\\x": {}}'), InputError, "is not JSON of one object a tensor"),
    "half an escape": (tensors('{"\\u12": {}}'), InputError, "is not JSON (Invalid \\uXXXX escape"),
    "no UTF-8": (tensors('{"?": {}}').replace(b"?", b"\xff"), InputError, "is not JSON ('utf-8'"),
    "UTF-8 in an entry": (tensors('{"x": {"dtype": "%s"}}' % ("ä" * 99)), InputError, "does not say dtype"),
    "a name twice": (tensors('{"x": ?, "x": ?}'.replace("?", WORDS), DATA), InputError, "has more than one tensor x"),
    "a name twice, escaped": (
        tensors('{"x": ?, "\\u0078": ?}'.replace("?", WORDS), DATA),
        InputError,
        "than one tensor x",
    ),
    "metadata twice": (
        tensors('{"__metadata__": {}, "__metadata__": {}}'),
        InputError,
        "more than one tensor __metadata__",
    ),
    "a key twice": (tensors('{"x": {"dtype": "F32", "dtype": "F32"}}'), InputError, "is not JSON (a key comes twice)"),
    "no shape": (
        tensors({"x": {"dtype": "F32", "data_offsets": [0, 24]}}, DATA),
        InputError,
        "does not say dtype, shape",
    ),
    "one more key": (
        tensors({"x": entry() | {"y": 1}}, DATA),
        InputError,
        "does not say dtype, shape and data_offsets",
    ),
    "a dtype that is no text": (tensors({"x": entry() | {"dtype": 4}}, DATA), InputError, "does not say dtype, shape"),
    "a negative size": (tensors({"x": entry(shape=[-2, -3])}, DATA), InputError, "does not say dtype, shape"),
    "a boolean size": (tensors({"x": entry(shape=[True, 6])}, DATA), InputError, "does not say dtype, shape"),
    "a size with a point": (tensors({"x": entry(shape=[2.0, 3])}, DATA), InputError, "does not say dtype, shape"),
    "a size of many digits": (
        tensors('{"x": {"shape": [%s]}}' % ("9" * 4000)),
        InputError,
        "does not say dtype, shape",
    ),
    "a shape that is none": (tensors({"x": entry(shape="23")}, DATA), InputError, "does not say dtype, shape"),
    "three offsets": (tensors({"x": entry() | {"data_offsets": [0, 24, 24]}}, DATA), InputError, "does not say dtype"),
    "offsets turned round": (tensors({"x": entry(first=24, last=0)}, DATA), InputError, "does not say dtype, shape"),
    "a negative offset": (tensors({"x": entry(first=-24, last=0)}, DATA), InputError, "does not say dtype, shape"),
    "deep brackets": (tensors('{"x": {"shape": %s}}' % ("[" * 4000)), InputError, "is not JSON ("),
    "a long entry": (tensors({"x": entry(shape=[1] * 4000)}, DATA), InputError, "has 12,0"),
    "too many axes": (tensors({"x": entry(shape=[1] * 65, last=4)}, bytes(4)), InputError, "that no machine can hold"),
    "sizes that overflow": (tensors({"x": entry(shape=[HUGE, HUGE])}, DATA), InputError, "that no machine can hold"),
    "sizes that overflow beside 0": (tensors({"x": entry(shape=[0, HUGE], last=0)}), InputError, "no machine can hold"),
    "too few bytes": (
        tensors({"x": entry(last=20)}, DATA[:20]),
        InputError,
        "declares a tensor of 24 bytes (F32 (2, 3)) and gives it 20",
    ),
    "too many bytes": (tensors({"x": entry("BF16")}, DATA), InputError, "of 12 bytes (BF16 (2, 3)) and gives it 24"),
    "too many bytes of complex": (tensors({"x": entry("C64", [2])}, DATA), InputError, "of 16 bytes (C64 (2,)) and"),
    "an overlap": (
        tensors({"x": entry(), "y": entry(first=20, last=44)}, DATA * 2),
        InputError,
        "y: the .safetensors header gives it bytes from 20 on, which overlaps the tensor before it",
    ),
    "the same bytes": (tensors({"x": entry(), "y": entry()}, DATA), InputError, "from 0 on, which overlaps the tensor"),
    "a gap": (
        tensors({"x": entry(), "y": entry(first=25, last=49)}, DATA * 3),
        InputError,
        "y: the .safetensors header gives it bytes from 25 on, which leaves a gap before it",
    ),
    "a gap at the beginning": (tensors({"x": entry(first=1, last=25)}, DATA * 2), InputError, "which leaves a gap"),
    "data cut": (
        tensors(ONE, DATA[:-1]),
        InputError,
        "x: is truncated: the header declares 24 bytes of data, 23 are there",
    ),
    "bytes after": (
        tensors(ONE, DATA + b"x"),
        InputError,
        "x: has bytes after the tensors: the header declares 24 bytes",
    ),
}

REBUILT = "torch._utils _rebuild_tensor_v3"
UNTYPED = storage(size=24, kind="torch.storage UntypedStorage")
WHOLE = pickled({"x": view()})
ALONE = "is a program of {}, not tensors alone; save the tensors alone: torch.save(model.state_dict(), FILE)"

PYTORCH_FILES: dict[str, tuple[bytes, type[GncliError], str]] = {
    "TorchScript": (torch_file({}, {"constants.pkl": b""}), InputError, ALONE.format("TorchScript")),
    "torch.export": (torch_file({}, {"archive_format": b"pt2"}), InputError, ALONE.format("torch.export")),
    "no pickle": (zipped(Packed("a/version", b"3")), InputError, "has no record data.pkl; load it with PyTorch, and"),
    "a byte order that is none": (torch_file({}, {"byteorder": b"middle"}), InputError, "is none (b'middle')"),
    "no record": (torch_file({"x": view(storage("7"))}), InputError, "x.pt: is damaged: it has no record data/7"),
    "a record that is too short": (
        torch_file({"x": view()}, {"data/0": bytes(23)}),
        InputError,
        "has a storage of 23 bytes, where its pickle says 24",
    ),
    "a record that is too long": (torch_file({"x": view()}, {"data/0": bytes(25)}), InputError, "a storage of 25 byt"),
    "a deflated record": (torch_file({"x": view()}, method=8), InputError, "is in a deflated record, which is not re"),
    "an encrypted record": (torch_file({"x": view()}, central={"flags": 1}), InputError, "is encrypted; extract it"),
    "a view beyond its storage": (torch_file(view(None, 1)), InputError, "needs 28 bytes of its storage, which has 24"),
    "strides beyond the storage": (torch_file(view(None, 0, (2,), (HUGE,))), InputError, "bytes of its storage, which"),
    "sizes that overflow": (torch_file(view(None, 0, (HUGE, HUGE), (1, 1))), InputError, "that no machine can hold ("),
    "sizes that overflow beside 0": (torch_file(view(None, 0, (0, HUGE, HUGE), (1, 1, 1))), InputError, "no machine"),
    "a negative size": (torch_file(view(None, 0, (-2, 3))), InputError, "has an offset, a size or a stride that is n"),
    "a negative stride": (torch_file(view(None, 5, (2, 3), (-3, -1))), InputError, "a size or a stride that is none"),
    "a boolean offset": (torch_file(view(None, True)), InputError, "has an offset, a size or a stride that is none"),
    "a size with a point": (torch_file(view(None, 0, (2.0, 3))), InputError, "has an offset, a size or a stride that"),
    "a shape that is a list": (torch_file(view(None, 0, [2, 3])), InputError, "an operand is missing, or of another "),
    "more strides than sizes": (torch_file(view(None, 0, (6,), (1, 1))), InputError, "has 1 sizes and 2 strides"),
    "too many axes": (torch_file(view(None, 0, (1,) * 65, (1,) * 65)), InputError, "has 65 sizes and 65 strides"),
    "no storage": (torch_file(view("storage")), InputError, "an operand is missing, or of another type"),
    "no storage of a dtype": (
        torch_file(view("storage", 0, (2, 3), (3, 1), Name("torch int8"), of=REBUILT)),
        InputError,
        "an operand is missing, or of another type",
    ),
    "no dtype": (torch_file(view(UNTYPED)), InputError, "a stride that is none, or no dtype"),
    "an unknown dtype": (
        torch_file(view(UNTYPED, 0, (2, 3), (3, 1), Name("torch float8_e8m0fnu"), of=REBUILT)),
        InputError,
        "holds elements of a type that is not read (dtype float8_e8m0fnu); save it as bfloat16 or float32",
    ),
    "an unknown storage": (
        torch_file(view(storage(kind="torch QInt8Storage"))),
        InputError,
        "is no tensor, but a reference that is no storage of numbers; save the tensors alone",
    ),
    "a storage of a negative size": (torch_file(view(storage(size=-1))), InputError, "but a reference that is no sto"),
    "a reference that is none": (torch_file(Stored("storage")), InputError, "is no tensor, but a reference that is "),
    "too few arguments": (torch_file(Call(REBUILT, (1,))), InputError, "but what torch._utils._rebuild_tensor_v3 mak"),
    "a call of what is called": (torch_file(Raw(b"cos\nsystem\n)R)R")), InputError, "is no tensor, but an object; sa"),
    "a call with a list": (torch_file(Raw(b"cos\nsystem\n]R")), InputError, "an operand is missing, or of another ty"),
    "a call inside a call": (
        torch_file(Call("torch._tensor _rebuild_from_type_v2", (Name("os system"), None, ("ls",)))),
        InputError,
        "is no tensor, but what os.system makes",
    ),
    "no call inside a call": (
        torch_file(Call("torch._tensor _rebuild_from_type_v2", ("ls", None, ()))),
        InputError,
        "an operand is missing, or of another type",
    ),
    "a name of numbers": (torch_file(Raw(b"K\1K\2\x93")), InputError, "an operand is missing, or of another type"),
    "two of a name": (
        torch_file({"a.b": view(), "a": {"b": view()}}),
        InputError,
        "x.pt: has more than one tensor of the name a.b",
    ),
    "protocol 0": (torch_file(b"I1\n."), InputError, "byte 0 of its pickle: b'I' is no operation of the prot"),
    "an unknown operation": (
        torch_file(b"\x80\2\xff."),
        InputError,
        "byte 2 of its pickle: b'\\xff' is no operation of the ",
    ),
    "no end": (torch_file(WHOLE[:-1]), InputError, "of its pickle: it has no end"),
    "a name that is cut": (torch_file(b"\x80\2cos\nsystem"), InputError, "of its pickle: it ends in a name"),
    "an old operation": (torch_file(b"\x80\2(Nl."), InputError, "LIST is no operation that torch.save writes"),
    "bytes after the end": (torch_file(WHOLE + b"N"), InputError, "of its pickle: it does not end where it should"),
    "two values": (torch_file(b"\x80\2NN."), InputError, "of its pickle: it does not end where it should"),
    "an open mark": (torch_file(b"\x80\2(N."), InputError, "of its pickle: it does not end where it should"),
    "no mark": (torch_file(b"\x80\2]Ne."), InputError, "an operand is missing, or of another type"),
    "an empty stack": (torch_file(b"\x80\2\x85."), InputError, "an operand is missing, or of another type"),
    "what was not remembered": (torch_file(b"\x80\2h\1."), InputError, "an operand is missing, or of another type"),
    "a key without a value": (torch_file(b"\x80\2}(Nu."), InputError, "a dict has a key without a value"),
    "items of a number": (torch_file(b"\x80\2K\1(Ne."), InputError, "an operand is missing, or of another type"),
    "text that is none": (torch_file(b"\x80\2X\1\0\0\0\xff."), InputError, "an operand is missing, or of another type"),
    "an object of a number": (torch_file(b"\x80\2K\1)\x81."), InputError, "an operand is missing, or of another typ"),
}
