"""A small file that is composed in memory, a picture or a report: it appears under its name whole, or not at all."""

from __future__ import annotations

from gncli.io.atomic import AtomicFile


class Page:
    """A file that is written from its beginning to its end.

    Parameters
    ----------
    file : AtomicFile
        The file, begun.
    """

    def __init__(self, file: AtomicFile) -> None:
        self.file = file
        self.name = file.name
        self._nbytes = 0

    def write(self, content: bytes) -> None:
        """Write what comes next."""
        self.file.write(memoryview(content), self._nbytes)
        self._nbytes += len(content)

    def commit(self) -> None:
        """Make the file visible under its name, whole."""
        self.file.commit()

    def abort(self) -> None:
        """Remove what was begun; after `commit`, do nothing."""
        self.file.abort()
