"""The layout of a tensor: one letter per axis, such as ``NCHW`` for batch, channels, height and width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gncli.errors import ParameterError

BATCH, CHANNEL, SPACE = "NB", "C", "HWDLTSXYZ"
DEFAULT_LAYOUTS = {2: "NC", 3: "NCL", 4: "NCHW", 5: "NCDHW"}
WORDS = {"batch": "N", "sample": "N", "channel": "C", "depth": "D", "height": "H", "width": "W", "length": "L"}


@dataclass(frozen=True)
class Layout:
    """One letter per axis: C for the channels, N or B for the batch if there is one, and H W D L T S X Y Z for space.

    Attributes
    ----------
    letters : str
        The letters, in the order of the axes.
    grouped : bool
        Whether the channels are needed; without, C may be missing.

    Examples
    --------
    >>> layout = Layout("NHWC")
    >>> layout.batch, layout.channel
    (0, 3)
    """

    letters: str
    grouped: bool = True

    def __post_init__(self) -> None:
        """Refuse letters that do not name axes.

        Raises
        ------
        ParameterError
            If a character is not one of these letters, occurs twice, or C is needed and missing, or both N and B are
            there.
        """
        text = self.letters
        example = "write one letter per axis, such as NCHW, NHWC or CHW"
        if not (text.isascii() and text.isalpha() and text.isupper()):
            raise ParameterError(f"layout {text!r} is not made of the letters A to Z", hint=example)
        if self.grouped and "C" not in text:
            raise ParameterError(f"layout {text!r} has no channel axis C", hint=example)
        if unknown := [letter for letter in text if letter not in BATCH + CHANNEL + SPACE]:
            raise ParameterError(
                f"layout {text!r} has {unknown[0]}, which stands for no axis",
                hint=f"N or B is the batch, C the channels, {' '.join(SPACE)} are space",
            )
        if all(letter in text for letter in BATCH):
            raise ParameterError(f"layout {text!r} has two batch axes, N and B", hint=example)
        if twice := [letter for letter in dict.fromkeys(text) if text.count(letter) > 1]:
            raise ParameterError(f"layout {text!r} has {twice[0]} twice", hint=example)

    @classmethod
    def of(cls, letters: str | None, shape: tuple[int, ...], *, grouped: bool = True) -> Layout:
        """Return the layout that `letters` spell, or the usual one for `shape`.

        Raises
        ------
        ParameterError
            If there is no usual layout for that number of axes, or the number of letters differs from it.
        """
        axes = f"{len(shape)} ax{'i' if len(shape) == 1 else 'e'}s"
        axes += f" ({'x'.join(map(str, shape))})" if shape else ""
        if letters is None:
            if len(shape) not in DEFAULT_LAYOUTS:
                raise ParameterError(
                    f"a tensor of {axes} has no usual layout",
                    hint="say --layout, one letter per axis, such as CHW",
                )
            return cls(DEFAULT_LAYOUTS[len(shape)], grouped)
        words = {"channels_first": DEFAULT_LAYOUTS.get(len(shape)), "channels_last": channels_last(shape)}
        if meant := words.get(letters.lower().replace("-", "_")):
            raise ParameterError(f"layout {letters!r} has no letters", hint=f"did you mean {meant}?")
        layout = cls(letters.upper(), grouped)
        if len(layout.letters) != len(shape):
            raise ParameterError(
                f"layout {layout.letters} has {len(layout.letters)} letters, the tensor {axes}",
                hint="give one letter per axis",
            )
        return layout

    @property
    def channel(self) -> int:
        """The channel axis."""
        return self.letters.index("C")

    @property
    def batch(self) -> int | None:
        """The batch axis; None if there is none."""
        return next((axis for axis, letter in enumerate(self.letters) if letter in BATCH), None)

    def __str__(self) -> str:
        return self.letters


def is_number(name: str) -> bool:
    """Return whether an axis is named by its number."""
    return name.lstrip("-").isdecimal()


def axes_named(
    option: str,
    text: str,
    shape: tuple[int, ...],
    letters: str | None,
    *,
    word: str | None = None,
    near: Callable[[str], str | None] = lambda _: None,
) -> dict[int, str]:
    """Return the axes that an option names, such as ``H,W`` or ``0,-1``, in ascending order, and what to call each.

    Parameters
    ----------
    option : str
        The option, for an error.
    text : str
        Letters of the layout, or numbers, which may be negative; comma-separated.
    shape : tuple of int
        The shape of the tensor.
    letters : str or None
        The layout, which needs no C here; None is the usual one. Numbers need none.
    word : str, optional
        What else the option takes, for a hint.
    near : callable, optional
        Takes what is no axis, and returns what may have been meant, for a hint.

    Raises
    ------
    ParameterError
        If there is no such axis, or one is named twice.

    Examples
    --------
    >>> axes_named("--over", "-1,h", (2, 3, 4, 5), None)
    {2: 'H', 3: '3'}
    """

    def axis_of(name: str) -> int:
        if is_number(name):
            axis = int(name)
            if not -len(shape) <= axis < len(shape):
                raise ParameterError(f"a tensor of {len(shape)} axes has no axis {axis}", hint="axes count from 0")
            return axis % len(shape)
        known = Layout.of(letters, shape, grouped=False).letters
        if name.upper() in known and len(name) == 1:
            return known.index(name.upper())
        meant = next((letter for word, letter in WORDS.items() if name.lower().rstrip("s") == word), None)
        hint = f"did you mean {meant}?" if meant and meant in known else near(name)
        choices = ", ".join([*known, "numbers of axes"]) + (f", or {word}" if word else "")
        raise ParameterError(f"layout {known} has no axis {name!r}", hint=hint or f"choose from {choices}")

    found: dict[int, str] = {}
    for name in (part.strip() for part in text.split(",")):
        axis = axis_of(name)
        if axis in found:
            raise ParameterError(f"{option} names axis {axis} twice", hint="name each axis once")
        found[axis] = str(axis) if is_number(name) else name.upper()
    return dict(sorted(found.items()))


def channels_last(shape: tuple[int, ...]) -> Layout | None:
    """Return the layout that has the axes of the usual one, but the channels last; None for fewer than three axes.

    Examples
    --------
    >>> str(channels_last((8, 14, 14, 64)))
    'NHWC'
    """
    usual = DEFAULT_LAYOUTS.get(len(shape), "")
    return Layout(usual.replace("C", "") + "C") if len(usual) > 2 else None


def axes_between(a: Layout, b: Layout) -> tuple[int, ...]:
    """Return the axis of `b` that has the letter of each axis of `a`.

    Raises
    ------
    ParameterError
        If they have different letters.

    Examples
    --------
    >>> axes_between(Layout("NCHW"), Layout("NHWC"))
    (0, 3, 1, 2)
    """
    if sorted(a.letters) != sorted(b.letters):
        raise ParameterError(f"layouts {a} and {b} have different letters", hint="write the same letters in two orders")
    return tuple(b.letters.index(letter) for letter in a.letters)


def permuted_layouts(axes: tuple[int, ...]) -> tuple[str, str] | None:
    """Return two layouts, the second of which has the axes of the first in the order `axes`; None if none is usual.

    Examples
    --------
    >>> permuted_layouts((0, 2, 3, 1)), permuted_layouts((0, 3, 1, 2)), permuted_layouts((0,))
    (('NCHW', 'NHWC'), ('NHWC', 'NCHW'), None)
    """
    usual = DEFAULT_LAYOUTS.get(len(axes))
    if usual is None:
        return None
    known = usual, usual.replace("C", "") + "C"
    pairs = [(letters, "".join(letters[axis] for axis in axes)) for letters in known]
    return next((pair for pair in pairs if pair[1] in known), pairs[0])


def doubt(shape: tuple[int, ...]) -> str | None:
    """Return a note where the usual layout of `shape` may be wrong: its last axis looks more like the channels.

    That is so if it is longer than the second axis, a multiple of 8 or a power of two, and the two axes before it are
    equal, as height and width often are.
    """
    other = channels_last(shape) if len(shape) > 3 else None
    last = shape[-1] if shape else 0
    if other is None or last <= shape[1] or shape[-2] != shape[-3] or (last % 8 and last & last - 1):
        return None
    return f"the layout is {DEFAULT_LAYOUTS[len(shape)]} by default: if the channels are last, say --layout {other}"
