"""The records of ``normalize``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gncli.report.records import Items, Record, TensorStats

if TYPE_CHECKING:
    from gncli.kernels.groupnorm import Check

FAMILY = (
    "interleaved",
    "over",
    "rms",
    "mean",
    "var",
    "gamma_axes",
    "gamma_per_group",
    "gamma_offset",
    "round_before_affine",
    "activation",
)  # of the other norms


@dataclass(frozen=True)
class Stage(Items):
    """A step of the walkthrough: input, reshaped, mean, var, normalized or output."""

    name: str
    stats: TensorStats


@dataclass(frozen=True, kw_only=True)
class Parameters(Items):
    """What ``normalize`` computed, with every default resolved.

    Parameters
    ----------
    groups, group_size : int, optional
        The number of groups, and of channels in each; None where the cells are not groups.
    eps : float
        Added to the variance.
    layout : str, optional
        One letter per axis; None where axes are named by number, and no layout is said.
    denominator : str
        ``std`` or ``variance``.
    gamma, beta : float or str
        A number, or the tensor as the user typed it.
    dtype : str
        The dtype of the output.
    interleaved : bool
        Whether channel c is in group c % G.
    cells : tuple of int
        The shape of the cells: (N, G) for groups.
    over : str, optional
        The reduced axes, as the user typed them.
    rms : bool
        Whether the mean is not subtracted.
    mean, var : float or str, optional
        A number, or the tensor as the user typed it, if the moments are given.
    gamma_axes : str, optional
        The axes of gamma and beta, as the user typed them.
    gamma_per_group : bool
        Whether gamma and beta have one value per group.
    gamma_offset : float
        Added to gamma.
    round_before_affine : bool
        Whether standardized values were rounded to `dtype` before gamma and beta.
    activation : str, optional
        What was applied after gamma and beta.
    overflow : {"saturate", "nonfinite"}, optional
        What became of results that overflow; None if they fail the check.

    Examples
    --------
    >>> done = Parameters(
    ...     groups=4, group_size=8, eps=1e-5, layout="NCHW", denominator="std", gamma=1.0, beta=0.0, dtype="float32"
    ... )
    >>> done.as_dict()["group_size"]
    8
    """

    groups: int | None
    group_size: int | None
    eps: float
    layout: str | None
    denominator: str
    gamma: float | str
    beta: float | str
    dtype: str
    interleaved: bool = False
    cells: tuple[int, ...] = ()
    over: str | None = None
    rms: bool = False
    mean: float | str | None = None
    var: float | str | None = None
    gamma_axes: str | None = None
    gamma_per_group: bool = False
    gamma_offset: float = 0.0
    round_before_affine: bool = False
    activation: str | None = None
    overflow: str | None = None

    @property
    def unit_deviation(self) -> bool:
        """Whether the deviation of a cell of the output is 1, but for eps."""
        return self.denominator == "std" and self.gamma == 1 and not self.rms and self.mean is None and self.var is None

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object ``parameters``."""
        return vars(self) | {"cells": list(self.cells)}

    def attributes(self) -> dict[str, object]:
        """Return what is stored beside an HDF5 output: what is needed to make it again."""
        kept = {"num_groups": self.groups, "eps": self.eps, "layout": self.layout, "denominator": self.denominator}
        kept |= {"gamma": str(self.gamma), "beta": str(self.beta)}
        family = {name: getattr(self, name) for name in (*FAMILY, "overflow")}
        kept |= {name: value for name, value in family.items() if value != getattr(Parameters, name)}
        return {name: value for name, value in kept.items() if value is not None}


@dataclass(frozen=True, kw_only=True, repr=False)
class NormalizeReport(Record):
    """What ``normalize`` did.

    Parameters
    ----------
    input : str
        The tensor, as the user typed it.
    output : str, optional
        Where the result went, as the user typed it; None where nothing is written.
    parameters : Parameters
        What was computed.
    before, after : TensorStats
        The input and the output.
    check : Check, optional
        None with ``--no-verify``.
    stages : tuple of Stage
        The walkthrough, with ``--stages``.
    seed : int, optional
        The seed of a drawn input, if gncli chose it.
    notes : tuple of str
        Facts about the run that the user should know.

    Examples
    --------
    >>> from gncli.kernels.groupnorm import Check
    >>> x = TensorStats((2, 8), "float32", {"mean": 0.0})
    >>> done = Parameters(
    ...     groups=4, group_size=2, eps=1e-5, layout="NC", denominator="std", gamma=1.0, beta=0.0, dtype="float32"
    ... )
    >>> check = Check(groups=8, mean_error=0.02, var_error=float("nan"))
    >>> NormalizeReport(input="x.npy", output=None, parameters=done, before=x, after=x, check=check).status
    1
    """

    input: str
    output: str | None
    parameters: Parameters
    before: TensorStats
    after: TensorStats
    check: Check | None
    stages: tuple[Stage, ...] = ()
    seed: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """The exit status: 1 if the check failed, else 0."""
        return int(self.check is not None and not self.check.ok)
