"""What a task is asked for: frozen records that commands and the public functions fill. No NumPy is imported here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gncli.inputs import STRICT, Draw, Policy

if TYPE_CHECKING:
    from gncli.kernels.groupnorm import GroupNorm
    from gncli.tasks.expect import Expectation


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Who does the work; it changes no result.

    Attributes
    ----------
    workers : int, optional
        Threads, or processes of a cluster; by default one per CPU.
    tile : int, optional
        Bytes of input that each works on at a time; by default 2 MiB.
    executor : {"threads", "dask"}
        Threads of this process, or a dask cluster.
    scheduler : str, optional
        The address of a dask cluster; by default processes on this machine.
    """

    workers: int | None = None
    tile: int | None = None
    executor: str = "threads"
    scheduler: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """What cells a tensor is divided into: ``--by`` and what goes with it.

    Attributes
    ----------
    by : str, optional
        The cell axes: letters of the layout, axis numbers, or ``group``; None is the whole tensor.
    layout : str, optional
        One letter per axis.
    num_groups, group_size : int, optional
        The number of groups, or the channels in each, for ``group``.
    """

    by: str | None = None
    layout: str | None = None
    num_groups: int | None = None
    group_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where a tensor is written.

    Attributes
    ----------
    path : str, optional
        As the command line names it; None is nowhere.
    force : bool
        Whether an existing file is replaced.
    in_place : bool
        Whether the input is replaced; there is no path then.
    compression : int, optional
        The level of deflate of an HDF5 output, 0 to 9; by default it is stored as it is.
    """

    path: str | None = None
    force: bool = False
    in_place: bool = False
    compression: int | None = None


WHOLE = Cutting()
NO_OUTPUT = Output()
ON_THREADS = Execution()


@dataclass(frozen=True, kw_only=True)
class Stats:
    """What ``stats`` is asked for.

    Attributes
    ----------
    tensors : tuple of str
        As the command line names them.
    random : Draw, optional
        A random tensor, instead of or before them.
    statistics : tuple of str
        By name, in the order to show; none stands for the default ones.
    ddof : int
        Subtracted from the number of elements in variance and deviation.
    cutting : Cutting
        The cells.
    bins : int, optional
        The number of bins of a histogram, if there is to be one.
    picture : int, optional
        The number of bins of the histogram of a picture, if there is to be one.
    zeros : bool
        Whether zeros are counted, where anything is read.
    expect : tuple of Expectation
        What every tensor, or every cell, should be.
    match : str, optional
        A pattern that the names of tensors, or of members of a file, must match.
    sort : str, optional
        The statistic to order tensors by; with ``-`` before it, the largest first.
    total : bool
        Whether there is one more record, of all tensors together.
    keep_cells : int
        How many cells of a tensor the report keeps.
    most_cells : int, optional
        How many cells a tensor may have.
    policy : Policy
        What the files may do and ask for.
    execution : Execution
        Who does the work.
    """

    tensors: tuple[str, ...] = ()
    random: Draw | None = None
    statistics: tuple[str, ...] = ()
    ddof: int = 0
    cutting: Cutting = WHOLE
    bins: int | None = None
    picture: int | None = None
    zeros: bool = False
    expect: tuple[Expectation, ...] = ()
    match: str | None = None
    sort: str | None = None
    total: bool = False
    keep_cells: int = 1000
    most_cells: int | None = None
    policy: Policy = field(default=STRICT)
    execution: Execution = ON_THREADS


@dataclass(frozen=True, kw_only=True)
class Diff:
    """What ``diff`` is asked for.

    Attributes
    ----------
    a, b : str
        The tensors, as the command line names them; `b` is the reference.
    rtol, atol : float, optional
        An element is outside where |a - b| > atol + rtol |b|; by default by the coarser dtype.
    max_fraction : float
        The tensors are the same if at most this fraction of the elements is outside.
    nan_differs : bool
        Whether a NaN differs from a NaN.
    cutting : Cutting
        The cells.
    bins : int, optional
        The number of bins of a histogram of a - b, if there is to be one.
    picture : int, optional
        The number of bins of the histogram of a picture, if there is to be one.
    most_cells : int, optional
        How many cells there may be.
    output : Output
        Where a - b is written.
    policy : Policy
        What the files may do and ask for.
    execution : Execution
        Who does the work: threads.
    """

    a: str
    b: str
    rtol: float | None = None
    atol: float | None = None
    max_fraction: float = 0.0
    nan_differs: bool = False
    cutting: Cutting = WHOLE
    bins: int | None = None
    picture: int | None = None
    most_cells: int | None = None
    output: Output = NO_OUTPUT
    policy: Policy = field(default=STRICT)
    execution: Execution = ON_THREADS


@dataclass(frozen=True, kw_only=True)
class Normalize:
    """What ``normalize`` is asked for.

    Attributes
    ----------
    tensor : str or Draw
        As the command line names it, or a random tensor.
    norm : GroupNorm
        The groups, eps, layout and denominator.
    gamma, beta : str or float
        A number, or a tensor of shape (C,).
    dtype : str, optional
        The dtype of the result; by default that of a floating input, else ``np.result_type(input, np.float32)``.
    output : Output
        Where the result is written.
    save_moments : str, optional
        A .npz for the arrays mean, var and rstd, of shape (N, G).
    stages, verify, zeros : bool
        Whether the stages of the walkthrough are kept, the check made, zeros counted.
    bins : int, optional
        The number of bins of histograms before and after, if there are to be any.
    picture : int, optional
        The number of bins of the histograms of a picture, if there is to be one.
    policy : Policy
        What the inputs may do and ask for.
    execution : Execution
        Who does the work.
    """

    tensor: str | Draw
    norm: GroupNorm
    gamma: str | float = 1.0
    beta: str | float = 0.0
    dtype: str | None = None
    output: Output = NO_OUTPUT
    save_moments: str | None = None
    stages: bool = False
    verify: bool = True
    zeros: bool = False
    bins: int | None = None
    picture: int | None = None
    policy: Policy = field(default=STRICT)
    execution: Execution = ON_THREADS


@dataclass(frozen=True, kw_only=True)
class Random:
    """What ``random`` is asked for.

    Attributes
    ----------
    draw : Draw
        The tensor.
    output : Output
        Where it is written.
    statistics : tuple of str
        By name, in the order to show; none stands for the default ones.
    zeros : bool
        Whether zeros are counted, where anything is measured.
    execution : Execution
        Who does the work: threads.
    """

    draw: Draw
    output: Output = NO_OUTPUT
    statistics: tuple[str, ...] = ()
    zeros: bool = False
    execution: Execution = ON_THREADS
