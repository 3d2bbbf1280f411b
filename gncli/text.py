"""The one sanitizer: whatever came from data, a path or the user passes through here on its way to a reader.

A name is never markup, a control sequence, a second line, a formula or 10 kB long.
"""

from __future__ import annotations

import math

_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_FORMULA_STARTS = frozenset("=+-@\t\r")


def printable(text: str, limit: int | None = 300) -> str:
    r"""Return `text` on one line, with everything that a terminal might act on shown as a backslash escape.

    Parameters
    ----------
    text : str
        Any text, lone surrogates included.
    limit : int, optional
        Longest result; what is longer loses its middle to ``...``. None never cuts.

    Returns
    -------
    str
        Printable characters and spaces only.

    Notes
    -----
    What Unicode does not call printable is escaped: control characters (C0, DEL, C1), bidirectional marks, zero-width
    characters, line separators, unassigned and private ones, and every space but U+0020. A list of dangerous
    characters would grow stale; this cannot. A byte of a file name that is not UTF-8 is shown as that byte.

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
    r"""Return `text` with lone surrogates escaped, all else untouched: what strict JSON can carry.

    Examples
    --------
    >>> print(without_surrogates("caf\xe9 \udce9"))
    café \xe9
    """
    return "".join(_escape(c) if "\ud800" <= c <= "\udfff" else c for c in text)


def csv_cell(text: str) -> str:
    """Return `text` as a cell that no spreadsheet takes for a formula.

    Examples
    --------
    >>> csv_cell("=cmd"), csv_cell("x.npy")
    ("'=cmd", 'x.npy')
    """
    return f"'{text}" if text[:1] in _FORMULA_STARTS else text


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode's surrogateescape: the byte is what the user would recognize
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return _SHORT.get(character) or f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def finite(number: float | None) -> float | None:
    """Return a number as strict JSON can carry it: None where it is not finite; integers stay integers."""
    if number is None or isinstance(number, int):
        return number
    return float(number) if math.isfinite(number) else None
