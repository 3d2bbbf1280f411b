"""The layout of a tensor: one letter per axis, such as ``NCHW`` for batch, channels, height and width."""

from __future__ import annotations

from dataclasses import dataclass

from gncli.errors import ParameterError

DEFAULT_LAYOUTS = {2: "NC", 3: "NCL", 4: "NCHW", 5: "NCDHW"}


@dataclass(frozen=True)
class Layout:
    """One letter per axis: C once, N at most once, any other letter is a spatial axis.

    Examples
    --------
    >>> layout = Layout("NHWC")
    >>> layout.batch, layout.channel
    (0, 3)
    """

    letters: str

    def __post_init__(self) -> None:
        """Refuse letters that do not name axes.

        Raises
        ------
        ParameterError
            If a character is not a letter, a letter occurs twice, or C is missing.
        """
        text = self.letters
        example = "write one letter per axis, such as NCHW, NHWC or CHW"
        if not (text.isascii() and text.isalpha() and text.isupper()):
            raise ParameterError(f"layout {text!r} is not made of the letters A to Z", hint=example)
        if "C" not in text:
            raise ParameterError(f"layout {text!r} has no channel axis C", hint=example)
        if twice := [letter for letter in dict.fromkeys(text) if text.count(letter) > 1]:
            raise ParameterError(f"layout {text!r} has {twice[0]} twice", hint=example)

    @classmethod
    def of(cls, letters: str | None, shape: tuple[int, ...]) -> Layout:
        """Return the layout that `letters` spell, or the usual one for `shape`.

        Raises
        ------
        ParameterError
            If there is no usual layout for that number of axes, or the number of letters differs from it.
        """
        dims = "x".join(map(str, shape)) or "()"
        if letters is None:
            if len(shape) not in DEFAULT_LAYOUTS:
                raise ParameterError(
                    f"a tensor of {len(shape)} axes ({dims}) has no usual layout",
                    hint="say --layout, one letter per axis, such as CHW",
                )
            return cls(DEFAULT_LAYOUTS[len(shape)])
        layout = cls(letters.upper())
        if len(layout.letters) != len(shape):
            raise ParameterError(
                f"layout {layout.letters} has {len(layout.letters)} letters, the tensor {len(shape)} axes ({dims})",
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
        index = self.letters.find("N")
        return None if index < 0 else index

    def __str__(self) -> str:
        return self.letters
