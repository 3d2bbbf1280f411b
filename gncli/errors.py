"""The errors that gncli raises on purpose, each with its exit status.

::

    GncliError
    ├── CheckFailed        1   it ran, and the answer is no
    ├── ParameterError     2   an option or a parameter is wrong; a ValueError too
    ├── InputError         3   an input cannot be read, is malformed, or is refused; an OSError too
    ├── OutputError        4   an output cannot be written; an OSError too
    ├── LimitError         5   a limit or memory ran out
    └── ChangedError       6   an input changed while it was read

Any other exception that reaches ``cli.py`` is a bug; the command then ends with status 70.
"""

from __future__ import annotations

from typing import ClassVar


class GncliError(Exception):
    """An error that the user can correct.

    Parameters
    ----------
    problem : str
        What is wrong, with the values that show it.
    subject : str, optional
        The input, output or option at fault, as the user typed it.
    hint : str, optional
        A sentence that says what to do.

    Attributes
    ----------
    status : int
        The exit status of the command.

    Examples
    --------
    >>> error = InputError("ends early", subject="x.npy", hint="copy it again")
    >>> str(error), error.status
    ('x.npy: ends early; copy it again', 3)
    """

    status: ClassVar[int]

    def __init__(self, problem: str, *, subject: str | None = None, hint: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.subject = subject
        self.hint = hint

    def __str__(self) -> str:
        head = f"{self.subject}: " if self.subject else ""
        tail = f"; {self.hint}" if self.hint else ""
        return f"{head}{self.problem}{tail}"

    def about(self, subject: str) -> GncliError:
        """Return this error, named after `subject` if it has no subject yet."""
        self.subject = self.subject or subject
        return self


class CheckFailed(GncliError):
    """The check under the report did not hold, so nothing was written."""

    status = 1


class ParameterError(GncliError, ValueError):
    """A parameter is wrong, or does not fit the tensor it is applied to."""

    status = 2


class InputError(GncliError, OSError):
    """An input cannot be read, is malformed, or is refused by policy."""

    status = 3


class OutputError(GncliError, OSError):
    """An output, such as a file or standard output, cannot be written."""

    status = 4


class LimitError(GncliError):
    """A limit of gncli was exceeded, or memory ran out."""

    status = 5


class ChangedError(GncliError):
    """An input changed while it was read, so that no result can be given."""

    status = 6
