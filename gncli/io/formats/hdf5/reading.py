"""An HDF5 file, read: its datasets by name, each resolved link by link and checked before anything of it is read.

Notes
-----
libhdf5 is not made for hostile files: external storage and external links read other files, and a virtual dataset that
refers to itself crashes on the first element. `Hdf5File` resolves each component of a path itself, looks at what it
found, and only then opens it; `datasets` checks the dataset. Nothing here protects this process from a crash:
`guard.GuardedHdf5File` does, and everybody outside this package uses that.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py import h5a, h5d, h5ds, h5f, h5fd, h5g, h5l, h5o, h5p
from numpy.typing import NDArray

from gncli.errors import InputError, LimitError
from gncli.inputs import STRICT, Policy
from gncli.io.formats.hdf5.calls import calling
from gncli.io.formats.hdf5.chunks import FilteredSource
from gncli.io.formats.hdf5.datasets import Hdf5Source, dtype_of, open_dataset
from gncli.io.rawfile import RawFile, RawSource
from gncli.io.source import Container, list_names, not_found

VERSIONS = {"h5py": h5py.__version__, "HDF5": h5py.version.hdf5_version}

MAX_LINKS = 100_000  # per file
MAX_PATHS_NBYTES = 64 << 20  # all paths of a file together: in deep groups they are long
MAX_SOFT_LINKS = 40  # per path, as in the kernel

_KEPT_TYPE_NBYTES = 64  # the type of a number takes 20; an enumeration's may take any number

_NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable."


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _links(parent: Any, name: bytes, most: int) -> list[tuple[bytes, int, Any]]:
    """Return name, kind and address of the links of a group: in one call, without opening it, five times faster."""
    found: list[tuple[bytes, int, Any]] = []

    def take(name: bytes, info: Any) -> bool | None:
        found.append((name, info.type, info.u))
        return True if len(found) == most else None  # None goes on

    parent.links.iterate(take, obj_name=name, info=True)
    return found


class _Link(NamedTuple):
    """A link that the walk meets: its path, its group, its name there, the kind and the address of its target."""

    path: str
    parent: Any
    name: bytes
    kind: int  # as h5g says: GROUP, DATASET, TYPE; LINK if it is not followed; UNKNOWN if the target was met before
    external: bool
    address: Any


class Hdf5File(Container):
    """An HDF5 file: its numeric datasets by name, each of which can be opened.

    Parameters
    ----------
    file : RawFile
        The file, closed together with this.
    name : str
        The file as the user typed it.
    policy : Policy, optional
        The limits that the user has lifted.

    Attributes
    ----------
    skipped : list of str
        Datasets that hold no numbers, and external links; known after `names`.

    Raises
    ------
    InputError
        If libhdf5 cannot open it.
    ChangedError
        If the path names another file by now.
    """

    def __init__(self, file: RawFile, name: str, policy: Policy = STRICT) -> None:
        self.name = name
        self.skipped: list[str] = []
        self._names: list[str] | None = None
        self._file = file
        self._policy = policy
        with calling(name, "cannot be opened as HDF5"):
            access = h5p.create(h5p.FILE_ACCESS)
            access.set_fapl_sec2()  # whatever the environment says
            if file.path is None:  # unlinked: libhdf5 needs a real path, or an object to read from
                access.set_fileobj_driver(h5fd.fileobj_driver, _Spooled(os.dup(file.fd)))
            self._id = h5f.open(os.fsencode(file.path or name), h5f.ACC_RDONLY, access)
        file.verify_unchanged()  # the path could name another file by now

    def names(self) -> list[str]:
        """Return the paths of the numeric datasets, sorted, each dataset once; soft links are not followed.

        Raises
        ------
        InputError
            If the file is damaged.
        LimitError
            If it has more than `MAX_LINKS` links.
        """
        if self._names is None:
            found: list[str] = []
            known: dict[bytes, bool] = {}
            with calling(self.name, "cannot be listed"):
                for link in self._walk():
                    if link.external:
                        self.skipped.append(link.path)
                    elif link.kind == h5g.DATASET and (numeric := _numeric(link, known)) is not None:
                        (found if numeric else self.skipped).append(link.path)
            self._names = sorted(found)
        return self._names

    def others_than(self, dataset: str) -> list[str]:
        """Return what the file holds besides the dataset of that path and the groups that lead to it."""
        parts = dataset.strip("/").split("/")
        leading = {"/" + "/".join(parts[:depth]) for depth in range(1, len(parts))}
        others = []
        with calling(self.name, "cannot be listed"):
            if h5a.get_num_attrs(h5g.open(self._id, b"/")):
                others.append("the attributes of /")
            for link in self._walk():
                if link.path in leading and link.kind == h5g.GROUP:
                    if h5a.get_num_attrs(h5g.open(link.parent, link.name)):
                        others.append(f"the attributes of {link.path}")
                elif link.path != "/" + "/".join(parts) or link.kind != h5g.DATASET:
                    others.append(link.path)
        return others

    def open(self, member: str, name: str) -> RawSource | FilteredSource | Hdf5Source:
        """Return the dataset at a path, checked in full before anything of it is read.

        Parameters
        ----------
        member : str
            The path, with or without the leading ``/``.
        name : str
            What errors call the dataset.

        Raises
        ------
        InputError
            If there is none, or it is damaged, or not numeric, or refers to other files.
        LimitError
            If a chunk is too large, or the dataset declares far more than it stores.
        """
        with calling(name, "cannot be found"):
            parent, last = self._resolve(member, name)
        with calling(name, "cannot be opened"):
            userblock = self._id.get_create_plist().get_userblock()
            return open_dataset(parent, last, self._file, self._policy, name, userblock=userblock)

    def axes(self, member: str, links: dict[Any, bytes]) -> list[str]:
        """Return the names of the axes of a dataset, empty if it has none: netCDF's dimensions, or h5py's labels.

        libhdf5 follows references to find them, so only the child may call this. Damage here does not keep anybody from
        the data.

        Parameters
        ----------
        member : str
            The path of the dataset.
        links : dict of address to bytes
            The names of all datasets of the file; filled by the first call that needs them.
        """
        with suppress(InputError, LimitError, MemoryError), calling(self.name, "has names of axes that cannot be read"):
            parent, last = self._resolve(member, self.name)
            dataset = h5d.open(parent, last)
            listed = _sound(dataset, b"DIMENSION_LIST", lambda kind: h5py.check_vlen_dtype(kind) == h5py.ref_dtype)
            labelled = _sound(dataset, b"DIMENSION_LABELS", lambda kind: h5py.check_string_dtype(kind) is not None)
            if listed or labelled:
                found = [
                    (listed and self._scale(dataset, axis, links)) or (labelled and h5ds.get_label(dataset, axis))
                    for axis in range(dataset.rank)
                ]
                return [_text(name or b"") for name in found] if any(found) else []
            if dataset.rank == 1 and h5ds.is_scale(dataset):  # such as the coordinates along a dimension
                return [_text(last)]
        return []

    def _scale(self, dataset: Any, axis: int, links: dict[Any, bytes]) -> bytes:
        """Return the name of the link to the first scale of an axis; nothing if there is none."""
        if not h5ds.get_num_scales(dataset, axis):
            return b""
        if not links:
            links |= {link.address: link.name for link in self._walk() if link.kind == h5g.DATASET}
        scales: list[Any] = []
        h5ds.iterate(dataset, axis, scales.append, 0)
        return links.get(h5o.get_info(scales[0]).addr, b"")

    def _resolve(self, member: str, name: str) -> tuple[Any, bytes]:
        """Return the group that a dataset is in, and its name there, after a look at each link on the way."""
        todo = deque(part for part in member.encode("utf-8", "surrogateescape").split(b"/") if part not in (b"", b"."))
        soft = 0
        root = here = h5g.open(self._id, b"/")
        while todo:
            part = todo.popleft()
            if not isinstance(here, h5g.GroupID) or part not in here:
                raise not_found("/" + member.strip("/"), self.names(), "dataset", name)
            kind = here.links.get_info(part).type
            if kind == h5l.TYPE_SOFT:
                soft += 1
                if soft > MAX_SOFT_LINKS:
                    raise InputError(f"goes through more than {MAX_SOFT_LINKS} soft links", subject=name)
                target = here.links.get_val(part)
                here = root if target.startswith(b"/") else here
                todo.extendleft(step for step in reversed(target.split(b"/")) if step not in (b"", b"."))
            elif kind != h5l.TYPE_HARD:
                hint = "name the dataset in its own file"
                raise InputError("is an external link, which is not followed", subject=name, hint=hint)
            else:
                parent, last, here = here, part, h5o.open(here, part)
        if isinstance(here, h5d.DatasetID):
            return parent, last
        inside = [path for path in self.names() if path.startswith("/" + member.strip("/") + "/")] or self.names()
        choice = f"name one of {list_names(inside)}" if inside else None
        raise InputError("is a group, not a dataset", subject=name, hint=choice)

    def _walk(self) -> Iterator[_Link]:
        """Yield every link; only the first hard link to a target says what the target is."""
        root = h5g.open(self._id, b"/")
        seen = {h5o.get_info(root).addr}
        todo = [("", root, b".", _links(root, b".", MAX_LINKS + 1))]
        count = length = 0
        while todo:
            prefix, parent, name, links = todo.pop()
            group = h5g.open(parent, name)
            for last, kind, address in links:
                path = f"{prefix}/{_text(last)}"
                count, length = count + 1, length + len(path)
                if count > MAX_LINKS or length > MAX_PATHS_NBYTES:
                    many = f"more than {MAX_LINKS:,} links" if count > MAX_LINKS else "names that are too long"
                    raise LimitError(f"has {many}", subject=self.name, hint="name one dataset, as FILE::NAME")
                if kind != h5l.TYPE_HARD or address in seen:
                    what = h5g.LINK if kind != h5l.TYPE_HARD else h5g.UNKNOWN
                    yield _Link(path, group, last, what, kind == h5l.TYPE_EXTERNAL, address)
                    continue
                seen.add(address)
                what = h5g.get_objinfo(group, last).type
                yield _Link(path, group, last, what, external=False, address=address)
                if what == h5g.GROUP and (inside := _links(group, last, MAX_LINKS + 1 - count)):
                    todo.append((path, group, last, inside))

    def close(self) -> None:
        """Close the file; open sources keep what they need of it.

        Raises
        ------
        InputError
            If libhdf5 fails to, as it does on some damaged files.
        """
        self._file.close()
        with calling(self.name, "cannot be closed"):
            self._id.close()


def _sound(dataset: Any, name: bytes, fits: Callable[[np.dtype[Any]], bool]) -> bool:
    """Return whether a dataset has this attribute, one value per axis, of the type that libhdf5 takes for granted."""
    if not h5a.exists(dataset, name):
        return False
    attribute = h5a.open(dataset, name)
    return attribute.shape == (dataset.rank,) and attribute.dtype.kind == "O" and fits(attribute.dtype)


class _Spooled(io.FileIO):
    """A file without a name that only libhdf5 knows, closed together with the last dataset that needs it."""

    def __del__(self) -> None:
        self.close()


def _numeric(link: _Link, known: dict[bytes, bool]) -> bool | None:
    """Return whether a dataset holds numbers; True if it cannot be opened, since the opening reports that itself.

    None stands for a dataset without data that only gives the length of a netCDF dimension.
    """
    try:
        with calling(link.path, "cannot be opened"):
            dataset = h5d.open(link.parent, link.name)
            code = dataset.get_type().encode()
    except InputError:
        return True
    if not _numeric_type(dataset, code, link.path, known):
        return False
    with suppress(InputError), calling(link.path, "cannot be read"):
        if h5a.exists(dataset, b"NAME") and (attribute := h5a.open(dataset, b"NAME")).dtype.kind == "S":
            name: NDArray[Any] = np.empty(attribute.shape, attribute.dtype)
            attribute.read(name)
            return None if name.tobytes().startswith(_NO_VARIABLE) else True
    return True


def _numeric_type(dataset: Any, code: bytes, path: str, known: dict[bytes, bool]) -> bool:
    """Return whether the elements are numbers; many datasets share a few types, so `known` keeps the answers."""
    if code in known:
        return known[code]
    try:
        dtype_of(dataset, path)
        numeric = True
    except InputError:
        numeric = False
    if len(code) <= _KEPT_TYPE_NBYTES:
        known[code] = numeric
    return numeric
