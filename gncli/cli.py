"""The error boundary: the one place where errors become messages and exit statuses.

Nothing is imported before it is needed, so that the program takes the signals before anything else (`gncli.signals`),
and an import that fails because memory ran out is one line like any other error.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # `typing` takes longer to import than everything here
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

MIB = 1 << 20
NEEDED_NBYTES = {"numpy": 96 * MIB, "h5py": 32 * MIB, "matplotlib": 96 * MIB}
"""Memory that a library takes as it is imported, and matplotlib the first time that it calls BLAS, rounded up."""

_SPARE_NBYTES = 8 * MIB  # where less is left, any error is one of memory
_NO_MEMORY = b"gncli: error: memory ran out; use fewer --workers or a smaller --tile, or raise its limit (ulimit -v)\n"
_NO_FILES = b"gncli: error: no more files can be opened; raise their limit (ulimit -n)\n"
_SHORTAGES = {
    "annot allocate memory": _NO_MEMORY,
    "failed to map segment": _NO_MEMORY,
    "Too many open files": _NO_FILES,
}
"""The message for an error that contains this text. An import reports a shortage by errors of many types."""


def main(argv: Sequence[str] | None = None, *, program: bool = False) -> int:
    """Run a command line, and say every error.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.
    program : bool
        Whether the process is gncli's own: it then takes the signals, and does not return from one.

    Returns
    -------
    int
        The exit status.
    """
    try:
        if program:
            _take_process()
        from gncli.commands.group import run

        return run(list(sys.argv[1:] if argv is None else argv))
    except Exception as error:  # noqa: BLE001  # the one place for it: no other error leaves without a message
        try:
            shortage = _shortage(error)
            if shortage is None:
                return _report_bug()
        except MemoryError:
            shortage = _NO_MEMORY
    try:  # noqa: SIM105  # contextlib takes memory
        os.write(2, shortage)
    except OSError:  # there is nobody left to tell
        pass
    return 5


def _take_process() -> None:
    """Set what is the program's to decide, and not that of a function in somebody else's process."""
    sys.excepthook = _quiet_excepthook
    from gncli import signals

    signals.take()
    from gncli.descriptors import hold_standard_descriptors

    hold_standard_descriptors()
    import atexit
    import gc

    # Before it ends, Python would search for garbage in all that was imported, which takes a fifth of a short run.
    atexit.register(gc.freeze)
    # What we ask of BLAS is too small for threads, and those it starts spin for a while on the cores of the workers.
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ.setdefault(variable, "1")
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")
    sys.meta_path.insert(0, _Precaution)


def _quiet_excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say nothing of a Ctrl-C that came before the signals were taken; Python then ends by it, as it should."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


class _Precaution:
    """Looks whether there is memory for a library before it is imported.

    OpenBLAS ends the process where it gets none, and NumPy crashes in the middle of its import.
    """

    @staticmethod
    def find_spec(name: str, _path: object, _target: object = None) -> None:
        """Raise MemoryError if there is not; whoever is asked next finds the module."""
        if name in NEEDED_NBYTES:
            bytes(NEEDED_NBYTES[name])  # of which the system gives no page until it is written


def _shortage(error: BaseException | None) -> bytes | None:
    """Return what to say if an error is one of memory or descriptors, or comes from one; None if it is a bug.

    Raises
    ------
    MemoryError
        If hardly any memory is left: then no error is a bug.
    """
    while error is not None:
        if isinstance(error, MemoryError):
            return _NO_MEMORY
        for text, message in _SHORTAGES.items():
            if text in str(error):
                return message
        error = error.__cause__ or error.__context__
    bytes(_SPARE_NBYTES)
    return None


def _report_bug() -> int:
    import traceback

    from gncli.commands.terminal import say
    from gncli.text import printable

    for line in traceback.format_exc().splitlines():
        say(printable(line, limit=2000))
    say("gncli: this is a bug in gncli; please report it, with the lines above")
    return 70
