"""The files of ``--plot`` and ``--report``, which are written in addition to the output."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from gncli.commands.options import Charts, Look, command_line, suffix_of
from gncli.names import PICTURE_FORMS

if TYPE_CHECKING:
    from gncli.io.atomic import Page
    from gncli.report import Report
    from gncli.report.page import Origin


class SideFiles:
    """The picture and the report in a file: begun before anything is computed, and removed unless committed.

    `write` puts the bytes of both on the disk before the output replaces anything, so that whatever can fail has failed
    by then. `commit` makes the report visible after the output is, because the report says what was written.

    Parameters
    ----------
    look : Look
        Where the report goes, and its digits.
    charts : Charts, optional
        Where the picture goes; a command without pictures has none.
    force : bool
        Whether existing files are replaced.
    inputs : sequence of str or float
        The tensors that will be read, as they were named; a number is not a file.
    outputs : sequence of str or None
        The other outputs, as they were named; None stands for one that is not written.
    """

    def __init__(
        self,
        look: Look,
        charts: Charts | None,
        force: bool,
        inputs: Sequence[str | float] = (),
        outputs: Sequence[str | None] = (),
    ) -> None:
        self._look, self._plot, self._force = look, None if charts is None else charts.plot, force
        self._drawn = {} if charts is None else charts.drawn()
        self._inputs, self._outputs = [name for name in inputs if isinstance(name, str)], outputs
        self._picture: Page | None = None
        self._report: Page | None = None

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for page in (self._picture, self._report):
            if page is not None:
                page.abort()

    def _begin(self) -> None:
        if self._plot is not None:
            from gncli.report.plot import require

            require()
            self._picture = self._page(self._plot, self._outputs)
        if self._look.report_file is not None:
            self._report = self._page(self._look.report_file, (*self._outputs, self._plot))

    def _page(self, path: str, others: Sequence[str | None]) -> Page:
        from gncli import io

        return io.open_page(path, force=self._force, inputs=self._inputs, outputs=others)

    def append(self, text: str) -> None:
        """Write the next part of the report to its file."""
        assert self._report is not None  # there is a file
        self._report.write(text.encode())

    def write(self, report: Report) -> None:
        """Draw the picture and make it visible; write the report, which stays invisible."""
        drawn: dict[str, bytes] = {}
        if self._picture is not None and self._plot is not None:
            from gncli.report.plot import draw

            form = PICTURE_FORMS[suffix_of(self._plot)]
            forms = {form, *(["svg"] if self._look.file_form == "html" else [])}
            drawn = {each: draw(report, each, **self._drawn) for each in forms}
            self._picture.write(drawn[form])
        if self._look.file_form is not None:
            from gncli.report import render
            from gncli.report.style import Style

            origin = self._origin(drawn.get("svg")) if self._look.file_form == "html" else None
            self.append(render(report, self._look.file_form, Style(precision=self._look.precision), origin))
        if self._picture is not None:
            self._picture.commit()

    def _origin(self, picture: bytes | None) -> Origin:
        """Return what a page says of where it came from."""
        from datetime import UTC, datetime

        from gncli import __version__, io
        from gncli.report.page import Origin

        epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
        date = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdecimal() else datetime.now(UTC)
        return Origin(
            command_line(),
            __version__,
            date.isoformat(timespec="seconds"),
            [(name, io.stored_nbytes(name)) for name in self._inputs],
            None if picture is None else picture.decode(),
        )

    def commit(self) -> None:
        """Make the report visible under its name."""
        if self._report is not None:
            self._report.commit()
