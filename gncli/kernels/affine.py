"""Gamma and beta: which axes of a tensor they have, and the map that follows the standardization."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.errors import ParameterError
from gncli.kernels.groupnorm import Grouping
from gncli.kernels.layout import axes_named
from gncli.kernels.moments import Floats
from gncli.kernels.plain import Affine
from gncli.kernels.twofold import two_sum
from gncli.names import ACTIVATIONS


@dataclass(frozen=True)
class Scaling:
    """How gamma and beta are applied, before the tensor is known.

    Attributes
    ----------
    gamma_axes : str or None
        The axes of gamma and beta: letters of the layout, or numbers, comma-separated. None is the channels, or with
        ``over`` the reduced axes or the channels, whichever fit.
    gamma_per_group : bool
        Whether gamma and beta have one value per group, in place of one per channel.
    gamma_offset : float
        Added to gamma, exactly: with 1 the factor is 1 + gamma.
    round_before_affine : bool
        Whether standardized values are rounded to the dtype of the result before gamma and beta.
    activation : str, optional
        One of `ACTIVATIONS`, which is applied last.
    """

    gamma_axes: str | None = None
    gamma_per_group: bool = False
    gamma_offset: float = 0.0
    round_before_affine: bool = False
    activation: str | None = None

    def __post_init__(self) -> None:
        """Refuse options that exclude each other."""
        if self.gamma_per_group and self.gamma_axes is not None:
            raise ParameterError("the axes of gamma are said twice", hint="give --gamma-axes or --gamma-per-group")
        if not math.isfinite(self.gamma_offset):
            raise ParameterError(f"the offset of gamma is {self.gamma_offset}", hint="give a finite --gamma-offset")
        if self.activation not in (None, *ACTIVATIONS):
            raise ParameterError(f"there is no activation {self.activation!r}", hint=f"choose {', '.join(ACTIVATIONS)}")

    def axes(self, grouping: Grouping, what: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the axes of the tensor, in ascending order, that gamma or beta of `shape` has; none if it is a number.

        A shape fits axes if it is that of the tensor along them, or broadcasts to the tensor: of channels (C,), and for
        NCHW (1, C, 1, 1) and (C, 1, 1).

        Parameters
        ----------
        grouping : Grouping
            The tensor, and its cells.
        what : str
            ``gamma`` or ``beta``, for an error.
        shape : tuple of int
            The shape of gamma or beta.

        Raises
        ------
        ParameterError
            If the shape does not fit, or fits two sets of axes.
        """
        choices = self.choices(grouping)
        sizes = [self.sizes(grouping, axes) for axes in choices]
        ndim = len(grouping.shape)
        if len(shape) <= ndim and set(shape) <= {1}:
            return ()
        whole = (1,) * (ndim - len(shape)) + shape

        def broadcasts(axes: tuple[int, ...]) -> bool:
            return whole == tuple(grouping.shape[axis] if axis in axes else 1 for axis in range(ndim))

        fitting = [
            axes
            for axes, size in zip(choices, sizes, strict=True)
            if size == shape or (not self.gamma_per_group and broadcasts(axes))
        ]
        if not fitting:
            needed = " or ".join(map(str, dict.fromkeys(sizes)))
            raise ParameterError(f"{what} has shape {shape}", hint=f"the tensor needs {needed}")
        if len(fitting) > 1:
            both = " and ".join(",".join(map(str, axes)) for axes in fitting)
            raise ParameterError(f"{what} of shape {shape} fits axes {both}", hint="say which by --gamma-axes")
        return fitting[0]

    def fitted(self, grouping: Grouping, what: str, values: Floats) -> Floats:
        """Return gamma or beta without axes of its own: in shape () if it is a number, else with the size of each axis.

        Raises
        ------
        ParameterError
            See `axes`.
        """
        axes = self.axes(grouping, what, values.shape)
        return values.reshape(self.sizes(grouping, axes) if axes else ())

    def affine(self, grouping: Grouping, gamma: NDArray[Any], beta: NDArray[Any]) -> Affine:
        """Return the map of gamma and beta, arrays of float64 that fit the tensor.

        Raises
        ------
        ParameterError
            See `axes`; also if gamma and beta have different axes.
        """
        found = {self.axes(grouping, what, values.shape) for what, values in (("gamma", gamma), ("beta", beta))} - {()}
        if len(found) > 1:
            raise ParameterError(f"gamma has shape {gamma.shape}, beta {beta.shape}", hint="give both the same axes")
        axes = next(iter(found), ())
        sizes = self.sizes(grouping, axes) if axes else ()
        gamma, beta = self.fitted(grouping, "gamma", gamma), self.fitted(grouping, "beta", beta)

        def laid(values: NDArray[Any]) -> Floats:
            whole = np.broadcast_to(values, sizes)
            if self.gamma_per_group and axes:
                whole = whole[grouping.groups_of_channels]
            return np.ascontiguousarray(whole.T if grouping.order == "F" else whole).reshape(-1)

        with np.errstate(over="ignore", invalid="ignore"):
            total, rest = two_sum(gamma, np.float64(self.gamma_offset))
        rest = np.where(np.isfinite(total), rest, 0.0)
        lost = laid(rest) if rest.any() else None
        runs = grouping.runs(axes)
        return Affine(laid(total), laid(beta), runs, lost, rounds=self.round_before_affine, activation=self.activation)

    def choices(self, grouping: Grouping) -> list[tuple[int, ...]]:
        """Return the axes that gamma and beta may have.

        Raises
        ------
        ParameterError
            If there are no groups to have one value each, or no such axes.
        """
        if self.gamma_per_group and grouping.num_groups is None:
            raise ParameterError("--gamma-per-group needs groups", hint="leave it out, or give --groups")
        if self.gamma_axes is not None:
            return [tuple(axes_named("--gamma-axes", self.gamma_axes, grouping.shape, grouping.norm.layout))]
        if grouping.norm.over is None:
            return [(grouping.channel,)]
        reduced = tuple(axis for axis in range(len(grouping.shape)) if axis not in grouping.kept)
        return [reduced, (grouping.channel,)] if "C" in grouping.names else [reduced]

    def sizes(self, grouping: Grouping, axes: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a gamma that has these axes."""
        if self.gamma_per_group and grouping.num_groups is not None:
            return (grouping.num_groups,)
        return tuple(grouping.shape[axis] for axis in axes)


@functools.lru_cache(maxsize=256)
def no_affine(size: int) -> Affine:
    """Return the map of gamma 1 and beta 0 on a tensor of `size` elements; many arrays have one size."""
    return Affine(np.ones(1), np.zeros(1), (1, 1, size))


def per_channel_moments(grouping: Grouping, mean: Floats, var: Floats) -> tuple[Floats, Floats]:
    """Return a given mean and variance, each in shape (C,), from numbers or arrays of a value per channel.

    Raises
    ------
    ParameterError
        If a variance is negative, or 0 where eps is 0.
    """
    mean, var = (np.ascontiguousarray(np.broadcast_to(values, (grouping.channels,))) for values in (mean, var))
    if (wrong := np.flatnonzero(var < 0)).size:
        raise ParameterError(f"var is {var[wrong[0]]} for channel {wrong[0]}", hint="give variances of at least 0")
    if (wrong := np.flatnonzero(var + grouping.norm.eps == 0)).size:
        raise ParameterError(f"var and eps are 0 for channel {wrong[0]}", hint="give an eps above 0")
    return mean, var
