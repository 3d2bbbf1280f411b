"""The records of ``gncli backward``: data alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gncli.report.normalize_records import Parameters
from gncli.report.records import Items, Record, TensorStats

if TYPE_CHECKING:
    from gncli.kernels.gradients import GradientCheck

MOST_CONDITIONS = 10_000  # in JSON; with more parameters the largest one is given alone


@dataclass(frozen=True, kw_only=True)
class ParameterGradient(Items):
    """dgamma or dbeta: sums over all axes that gamma does not have.

    Parameters
    ----------
    stats : TensorStats
        Its statistics.
    condition : float, optional
        The largest ``sum(abs(t)) / abs(sum(t))`` of these sums of terms t: how far they cancel. None where a sum of
        terms that are not 0 is exactly 0 (infinite), or none is finite.
    place : tuple of int
        The index of that sum; empty where there is none.
    conditions : tuple of float or None
        That of each sum, in C order; empty where there are more than 10,000.
    undefined : int
        The number of sums that are NaN, because a term is not finite.
    """

    stats: TensorStats
    condition: float | None
    place: tuple[int, ...]
    conditions: tuple[float | None, ...]
    undefined: int

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object of the sums, without the statistics."""
        return {
            "condition": self.condition,
            "condition_index": list(self.place) or None,
            "conditions": list(self.conditions) or None,
            "undefined": self.undefined,
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class BackwardReport(Record):
    """What ``backward`` did.

    Parameters
    ----------
    input, upstream : str
        X and DY, as the user typed them.
    outputs : mapping of str to str
        Where dx, dgamma and dbeta went, those that are written.
    parameters : Parameters
        The formula, with every default resolved; its dtype is that of dx.
    param_dtype : str
        The dtype of dgamma and dbeta.
    dy, dx : TensorStats
        The gradient that was given, and that of X.
    dgamma, dbeta : ParameterGradient
        The gradients of gamma and beta.
    settled : int
        The number of elements of dgamma and dbeta that were settled by exact arithmetic; the others were proved.
    check : GradientCheck, optional
        None with ``--no-verify``.
    notes : tuple of str
        Facts about the run that the user should know.
    """

    input: str
    upstream: str
    outputs: Mapping[str, str]
    parameters: Parameters
    param_dtype: str
    dy: TensorStats
    dx: TensorStats
    dgamma: ParameterGradient
    dbeta: ParameterGradient
    settled: int
    check: GradientCheck | None
    notes: tuple[str, ...] = ()

    @property
    def output(self) -> str | None:
        """The first file that was written; None where nothing is."""
        return next(iter(self.outputs.values()), None)

    @property
    def status(self) -> int:
        """The exit status: 1 if the check failed, else 0."""
        return int(self.check is not None and not self.check.ok)
