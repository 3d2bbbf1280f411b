"""A checkpoint in several .safetensors, as Hugging Face writes it: an index of JSON says which shard has which tensor.

Notes
-----
The index is data, not trust. A shard must lie in the folder of the index, every tensor must be in the shard that the
index says and in no other, and a file that is named as the shards are must be one of them. So the header of every shard
is read before the first tensor; no shard stays open, so that their number is not bounded by that of open files.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from gncli.errors import ChangedError, InputError, LimitError
from gncli.io.formats.safetensors import Entry, parsed, read_header, tensor
from gncli.io.rawfile import RawFile, reading
from gncli.io.source import MAX_MEMBERS, Container, Identity, Source, StoredFile, not_found
from gncli.text import natural

MAX_INDEX_NBYTES = 64 << 20
LONGEST = 100_000_000  # bytes of the header of a shard, the limit of its format

_STRUCTURE = (b"{", b"[", b",")  # what each value of JSON costs at least one of
_SHARD = re.compile(r"(.+?)(?:-[0-9]+-of-[0-9]+)?\.safetensors", re.DOTALL)


class Shard(NamedTuple):
    """A file of tensors, as it was when its header was read.

    Parameters
    ----------
    name : str
        The file, in the folder of the index.
    identity : Identity
        Of the file.
    offset : int
        Where its tensors begin, in bytes.
    entries : dict of str to Entry
        Its tensors by name.
    """

    name: str
    identity: Identity
    offset: int
    entries: dict[str, Entry]


class ShardedFile(Container):
    """A checkpoint in several files: its tensors by name, each of which can be opened.

    Parameters
    ----------
    file : StoredFile
        The index, which is closed with this.
    name : str
        The index as the user typed it.

    Attributes
    ----------
    skipped : list of str
        The names of tensors of a dtype that is not read.

    Raises
    ------
    InputError
        If the index or a shard is damaged, or the index does not say what is in the shards.
    LimitError
        If it has more tensors than gncli lists.
    """

    many = True

    def __init__(self, file: StoredFile, name: str) -> None:
        if isinstance(file, RawFile) and file.path is None:
            hint = "give the path of the index"
            raise InputError("is an index of files next to it, and a pipe has none", subject=name, hint=hint)
        self._file, self._name = file, name
        self._shard_of, total = _read_index(file, name)
        self._shards = self._all_shards()
        nbytes = sum(e.last - e.first for shard in self._shards.values() for e in shard.entries.values())
        if total is not None and total != nbytes:
            problem = f"says total_size {total:,} bytes, and the tensors of its shards have {nbytes:,}"
            raise InputError(problem, subject=name)
        file.verify_unchanged()
        self.skipped = [called for called in self._shard_of if not self._entry(called).known]

    def _all_shards(self) -> dict[str, Shard]:
        members: dict[str, set[str]] = defaultdict(set)
        for called, shard in self._shard_of.items():
            members[shard].add(called)
        self._refuse_others(members)
        return {shard: self._shard(shard, members[shard]) for shard in sorted(members, key=natural)}

    def _refuse_others(self, shards: Mapping[str, object]) -> None:
        """Raise InputError if a file that the index does not name is named as its shards are."""
        prefixes = {match[1] for match in map(_SHARD.fullmatch, shards) if match}
        for other in sorted(set(self._file.neighbours()) - shards.keys(), key=natural):
            if (match := _SHARD.fullmatch(other)) and match[1] in prefixes:
                problem = f"names no tensor of {other}, which lies next to it and is named as a shard"
                raise InputError(problem, subject=self._name, hint="move it away, or name the file that is meant")

    def _shard(self, shard: str, members: set[str]) -> Shard:
        """Return a shard that holds `members` and nothing else."""
        try:
            file = self._file.beside(shard)
        except FileNotFoundError as error:
            problem = f"names the shard {shard}, which is not there"
            raise InputError(problem, subject=self._name, hint="it must lie next to the index") from error
        with file:
            path = file.name
            if file.head(1, 8) != b"{" or int.from_bytes(file.head(8), "little") > LONGEST:
                hint = "shards of PyTorch are read as a folder: name that" if shard.endswith(".bin") else None
                raise InputError("is no .safetensors, and the index names it as a shard", subject=path, hint=hint)
            offset, entries = read_header(file, path)
            file.verify_unchanged()
            for called in sorted(entries.keys() - members):
                other = self._shard_of.get(called)
                where = "does not name" if other is None else f"gives to {other}"
                raise InputError(f"holds {called}, which the index {where}", subject=path)
            for called in sorted(members - entries.keys()):
                raise InputError(f"does not hold {called}, which the index gives to it", subject=path)
            return Shard(shard, file.identity, offset, entries)

    def _entry(self, called: str) -> Entry:
        return self._shards[self._shard_of[called]].entries[called]

    def names(self) -> list[str]:
        """Return the names of the tensors, in natural order."""
        return sorted((called for called in self._shard_of if self._entry(called).known), key=natural)

    def open(self, member: str, name: str) -> Source:
        """Return the tensor `member`, which errors call `name`.

        Raises
        ------
        InputError
            If there is none, or its dtype is not read.
        ChangedError
            If its shard is not what it was when the index was read.
        """
        if member not in self._shard_of:
            raise not_found(member, self.names(), "tensor", name)
        shard = self._shards[self._shard_of[member]]
        with reading(name):
            file = self._file.beside(shard.name, name)
        if file.identity != shard.identity:
            file.close()
            raise ChangedError("was changed while it was read", subject=name)
        return tensor(file, shard.offset, shard.entries[member], name)

    def close(self) -> None:
        """Close the index; sources that were opened keep what they need of their shard."""
        self._file.close()


def _read_index(file: StoredFile, name: str) -> tuple[dict[str, str], float | None]:
    """Return the shard of each tensor, and the bytes of all tensors where the index says them."""
    if file.identity.nbytes > MAX_INDEX_NBYTES:
        raise LimitError(f"is {file.identity.nbytes:,} bytes long; the limit is {MAX_INDEX_NBYTES:,}", subject=name)
    text = file.head(file.identity.nbytes)
    if sum(map(text.count, _STRUCTURE)) > 2 * MAX_MEMBERS:  # before it takes memory
        raise LimitError(f"has more than {MAX_MEMBERS:,} tensors", subject=name)
    try:
        value = parsed(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not JSON ({error})", subject=name) from error
    match value:
        case {"weight_map": dict(shard_of)}:
            pass
        case _:
            raise InputError("is JSON, and no index of shards: it has no weight_map", subject=name)
    for called, shard in shard_of.items():
        if not isinstance(shard, str) or shard in ("", ".", "..") or re.search(r"[/\\\x00]", shard):
            problem = f"gives {called} to {shard!r}, which is not the name of a file in its folder"
            raise InputError(problem, subject=name)
    match value:
        case {"metadata": {"total_size": int(total) | float(total)}}:
            return shard_of, total
    return shard_of, None
