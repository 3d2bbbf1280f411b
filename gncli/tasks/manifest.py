"""Manifests: JSON Lines with the name, shape, dtype and SHA-256 of tensors, as ``stats --format jsonl`` writes them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gncli import io
from gncli.errors import InputError, ParameterError
from gncli.report.lines import counted
from gncli.report.records import TensorStats
from gncli.text import without_surrogates

_HINT = "make one with gncli stats ... --format jsonl -s shape,dtype,sha256"
_KEYS = ("dtype", "shape", "sha256")  # in the order in which the first difference is looked for


def matches(name: str, pattern: str) -> bool:
    """Return whether the full name of a tensor, or its name within its folder or file, matches `pattern`.

    Examples
    --------
    >>> [matches("x.h5::/norm1/bias", pattern) for pattern in ("x.h5::*", "/norm1/*", "norm1/*", "bias")]
    [True, True, True, False]
    """
    parts = name.split("::")
    inside = ["::".join(parts[at:]) for at in range(len(parts))]
    return any(fnmatch.fnmatchcase(each, pattern) for each in (*inside, inside[-1].removeprefix("/")))


def unmatched(option: str, pattern: str | None, names: int, example: str) -> ParameterError:
    """Return the error about a pattern that matches none of so many names, of which one is an example."""
    return ParameterError(
        f"{option} {pattern!r} matches none of {counted(names, 'tensor')}", hint=f"one is called {example}"
    )


@dataclass(frozen=True)
class Manifest:
    """What some tensors were, by name.

    Attributes
    ----------
    entries : mapping of str to mapping
        The dtype, shape and sha256 of each tensor.
    """

    entries: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, path: str) -> Manifest:
        """Return the manifest in a file.

        Raises
        ------
        InputError
            If it cannot be read, is no manifest, or has a name twice.
        LimitError
            If it is too long.
        """
        import json

        entries: dict[str, Mapping[str, Any]] = {}
        for number, line in enumerate(io.read_text(path).splitlines(), 1):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"has a line that is not JSON (line {number})", subject=path, hint=_HINT) from error
            match value:
                case {"name": str(name), "sha256": str(digits)} if re.fullmatch("[0-9a-f]{64}", digits):
                    if name in entries:
                        raise InputError(f"has {name} twice (line {number})", subject=path)
                    entries[name] = {key: value[key] for key in _KEYS if key in value}
                case _:
                    raise InputError(f"has a line without name and sha256 (line {number})", subject=path, hint=_HINT)
        if not entries:
            raise InputError("is a manifest of no tensor", subject=path, hint=_HINT)
        return cls(entries)

    def matching(self, pattern: str) -> Manifest:
        """Return the manifest of the tensors whose name matches `pattern`."""
        return Manifest({name: entry for name, entry in self.entries.items() if matches(name, pattern)})

    def broken(self, tensors: Sequence[TensorStats], failed: Collection[str] = ()) -> Iterator[str]:
        """Yield a sentence about each tensor that is not what the manifest says, or is missing, or new.

        Parameters
        ----------
        tensors : sequence of TensorStats
            The tensors that there are, each with its ``sha256``.
        failed : collection of str
            The names of those that cannot be read, of which nothing is said.

        Notes
        -----
        If all names of the manifest begin with one ``FILE::``, and those of the tensors do too, that is left out: a
        checkpoint may have been moved.
        """
        there = {without_surrogates(tensor.name): tensor for tensor in tensors}
        names = [*there, *map(without_surrogates, failed)]
        inside = _in_one(self.entries) and _in_one(names)

        def called(name: str) -> str:
            return name.partition("::")[2] if inside else name

        wanted = {called(name): entry for name, entry in self.entries.items()}
        for name, tensor in there.items():
            entry = wanted.get(called(name))
            found: Mapping[str, Any] = tensor.as_dict(("sha256",))
            if entry is None:
                yield f"{name}: is new: the manifest does not have it"
                continue
            for key in _KEYS:
                if key in entry and entry[key] != found[key]:
                    yield f"{name}: its {key} is {_spelled(found[key])}, and the manifest has {_spelled(entry[key])}"
                    break
        known = set(map(called, names))
        yield from (f"{name}: is missing: the manifest has it" for name in self.entries if called(name) not in known)


def _in_one(names: Collection[str]) -> bool:
    """Return whether all names are those of tensors of one file or folder."""
    return len({name.partition("::")[0] for name in names}) == 1 and all("::" in name for name in names)


def _spelled(value: object) -> str:
    return str(tuple(value)) if isinstance(value, list) else str(value)
