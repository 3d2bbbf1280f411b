"""Sanitizing text: all text from data, paths or the user passes through here before it is shown.

So no name acts as markup, a control sequence, a second line or a formula, and none is 10 kB long.
"""

from __future__ import annotations

import math
import re

_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_FORMULA_STARTS = frozenset("=+-@\t\r")


def printable(text: str, limit: int | None = 300) -> str:
    r"""Return `text` on one line, with everything that a terminal might act on shown as a backslash escape.

    Parameters
    ----------
    text : str
        Any text, lone surrogates included.
    limit : int, optional
        The largest length of the result; in a longer text ``...`` replaces the middle. None is no limit.

    Returns
    -------
    str
        Printable characters and spaces only.

    Notes
    -----
    Characters that Unicode does not class as printable are escaped: control characters (C0, DEL, C1), bidirectional
    marks, zero-width characters, line separators, unassigned and private ones, and every space but U+0020. A list of
    dangerous characters would become outdated; this rule does not. A byte of a file name that is not UTF-8 is shown as
    that byte.

    Examples
    --------
    >>> print(printable("\x1b[31mred\n\u202ecod.exe \udcff"))
    \x1b[31mred\n\u202ecod.exe \xff
    >>> printable("abcdefghij", limit=7)
    'ab...ij'
    """
    shown = text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)
    if limit is None or len(shown) <= limit:
        return shown
    kept = limit - 3
    return f"{shown[: kept - kept // 2]}...{shown[len(shown) - kept // 2 :]}"


def without_surrogates(text: str) -> str:
    r"""Return `text` with lone surrogates escaped and all else unchanged, as strict JSON requires.

    Examples
    --------
    >>> print(without_surrogates("caf\xe9 \udce9"))
    café \xe9
    """
    return "".join(_escape(c) if "\ud800" <= c <= "\udfff" else c for c in text)


def strict(value: dict[str, object]) -> dict[str, object]:
    r"""Return a JSON object in which no text has a lone surrogate, at any depth.

    Examples
    --------
    >>> strict({"a": ["caf\udce9", 1]})
    {'a': ['caf\\xe9', 1]}
    """

    def cleaned(part: object) -> object:
        if isinstance(part, dict):
            return strict(part)
        if isinstance(part, list):
            return [cleaned(one) for one in part]
        return without_surrogates(part) if isinstance(part, str) else part

    return {key: cleaned(part) for key, part in value.items()}


def csv_cell(text: str) -> str:
    """Return `text` as a cell that no spreadsheet interprets as a formula.

    Examples
    --------
    >>> csv_cell("=cmd"), csv_cell("x.npy")
    ("'=cmd", 'x.npy')
    """
    return f"'{text}" if text[:1] in _FORMULA_STARTS else text


def natural(text: str) -> tuple[tuple[object, ...], str]:
    """Return a key that sorts names as people count: numbers in them by their value, and all else by characters.

    Examples
    --------
    >>> sorted(["layers.10", "layers.9", "layers.09"], key=natural)
    ['layers.09', 'layers.9', 'layers.10']
    """
    parts = re.split("([0-9]+)", text)  # every second one is a number, which may have more digits than int() takes
    digits = [part.lstrip("0") for part in parts[1::2]]
    parts[1::2] = [(len(number), number) for number in digits]
    return tuple(parts), text


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode's surrogateescape: the byte is what the user would recognize
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return _SHORT.get(character) or f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def finite(number: float | None) -> float | None:
    """Return a number that strict JSON can represent: None if it is not finite; integers stay integers."""
    if number is None or isinstance(number, int):
        return number
    return float(number) if math.isfinite(number) else None
