"""The record behind a report of one part of ``normalize`` or ``stats``."""

from __future__ import annotations

from dataclasses import dataclass

from gncli.report.records import Record


@dataclass(frozen=True, kw_only=True, repr=False)
class PartReport(Record):
    """What a part did.

    Parameters
    ----------
    command : str
        The command that it is a part of.
    input, output : str
        The tensor, and what the part belongs to or was written to, as the user typed them.
    part, parts : int
        Which part, from 1 on, of how many.
    steps : tuple of str
        What was done: ``"measured"``, ``"written"``, or both; nothing where there was nothing to do.
    cells, of_cells : int, optional
        How many whole cells the part has, and the tensor; None where cells are shared by parts.
    elements, of_elements : int
        How many elements the part has, and the tensor.
    cell : str
        What a cell is called.
    before : bool
        Whether it was done before.
    notes : tuple of str
        Facts about the run that the user should know.

    Examples
    --------
    >>> PartReport(
    ...     command="normalize", input="x.npy", output="y.npy", part=2, parts=7, steps=("measured", "written"),
    ...     cells=12, of_cells=84, elements=1200, of_elements=8400,
    ... ).line
    'part 2 of 7: 12 of 84 groups measured and written'
    """

    command: str
    input: str
    output: str
    part: int
    parts: int
    steps: tuple[str, ...]
    cells: int | None
    of_cells: int
    elements: int
    of_elements: int
    cell: str = "group"
    before: bool = False
    notes: tuple[str, ...] = ()
    status: int = 0

    @property
    def line(self) -> str:
        """What was done, in a line."""
        head = f"part {self.part} of {self.parts}: "
        if not self.steps:
            return f"{head}nothing to measure, since no {self.cell} is larger than a part"
        many = f"{self.elements:,} of {self.of_elements:,} elements"
        if self.cells is not None:
            many = f"{self.cells:,} of {self.of_cells:,} {self.cell}{'s' * (self.of_cells != 1)}"
        return f"{head}{many} {' and '.join(self.steps)}{' before' * self.before}"

    def as_dict(self) -> dict[str, object]:
        """Return the object of JSON."""
        return {name: value for name, value in vars(self).items() if name not in ("notes", "status", "cell")}
