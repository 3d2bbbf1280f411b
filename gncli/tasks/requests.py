"""Requests: the parameters of each task, filled by commands and the Python API.

They are named tuples, which are made in a tenth of the time that dataclasses take, since every command makes them all.
NumPy is not imported here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gncli.inputs import ON_NETWORK, STRICT, Draw, Network, Policy
from gncli.names import Scale

if TYPE_CHECKING:
    from gncli.io import Listing
    from gncli.kernels.affine import Scaling
    from gncli.kernels.groupnorm import GroupNorm
    from gncli.tasks.expect import Condition


class Execution(NamedTuple):
    """Where and how a task runs; it changes no result.

    Attributes
    ----------
    workers : int, optional
        Threads, or processes of a cluster; by default one per CPU.
    tile : int, optional
        Bytes of input that each worker processes at once; by default 2 MiB.
    executor : {"threads", "dask"}
        Threads of this process, or a dask cluster.
    scheduler : str, optional
        The address of a dask cluster; by default processes on this machine.
    """

    workers: int | None = None
    tile: int | None = None
    executor: str = "threads"
    scheduler: str | None = None


class Cutting(NamedTuple):
    """The cells that a tensor is divided into: ``--by`` and the options that belong to it.

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


class Output(NamedTuple):
    """Where a tensor is written.

    Attributes
    ----------
    path : str, optional
        The file, as the command line names it; None if nothing is written.
    force : bool
        Whether an existing file is replaced.
    in_place : bool
        Whether the input is replaced; `path` is then None.
    compression : int or str, optional
        How an HDF5 or Zarr output is compressed, as `names.compression_of` takes it; by default it is not.
    npy_bits : bool
        Whether a .npy may hold the bits of a dtype that it cannot name: bfloat16 or a float8.
    overflow : {"saturate", "nonfinite"}, optional
        What becomes of elements that overflow, in these dtypes.
    """

    path: str | None = None
    force: bool = False
    in_place: bool = False
    compression: int | str | None = None
    npy_bits: bool = False
    overflow: str | None = None


class Choice(NamedTuple):
    """Which rows are shown, and in which order: tensors, cells or pairs. What cannot be read is shown always.

    Attributes
    ----------
    where : Condition, optional
        What must hold of a row.
    sort : str, optional
        The name of the value to order rows by; with ``-`` before it, the largest first.
    top : int, optional
        The number of rows, the first of this order.
    """

    where: Condition | None = None
    sort: str | None = None
    top: int | None = None

    @property
    def ranks(self) -> bool:
        """Whether all rows must be known before the first is shown."""
        return self.sort is not None or self.top is not None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the values that rows must have."""
        ordering = () if self.sort is None else (self.sort.removeprefix("-"),)
        return ordering if self.where is None else (*self.where.names, *ordering)


class Parts(NamedTuple):
    """How a task is done in parts.

    Attributes
    ----------
    kind : {"part", "measure", "assemble", "resume"}
        One part is done; its cells are measured alone; all parts are put together; or one process does what is not
        done yet, and puts all together.
    part, parts : int
        Which part, from 1 on, of how many; 0 where all are meant.
    """

    kind: str
    part: int = 0
    parts: int = 0


WHOLE = Cutting()
EVERY_ROW = Choice()
NO_OUTPUT = Output()
ON_THREADS = Execution()


class Stats(NamedTuple):
    """The parameters of ``stats``.

    Attributes
    ----------
    tensors : tuple of str or Listing
        The tensors, as the command line names them, or open already.
    random : Draw, optional
        A random tensor, described before `tensors`.
    statistics : tuple of str
        The names of the statistics, in the order to show; an empty tuple is the default statistics.
    ddof : int
        Subtracted from the number of elements in variance and deviation.
    cutting : Cutting
        The cells of each tensor.
    bins : int, optional
        The number of bins of a histogram; None for no histogram.
    scale : {"linear", "exponent", "log"}
        The bins of the histogram: of x, or of |x| by powers of two or by its logarithm.
    picture : int, optional
        The number of bins of the histogram in a picture; None for no picture.
    zeros : bool
        Whether zeros are counted, if data are read.
    expect : tuple of Condition
        What must hold of every tensor, or every cell, that is chosen.
    manifest : str, optional
        A file with the fingerprints that the tensors are expected to have.
    match : str, optional
        A pattern that the names of tensors, or of members of a file, must match.
    choice : Choice
        Which tensors, or with `cutting` which cells, are shown, by their statistics.
    total : bool
        Whether one more record describes all tensors that are chosen together.
    keep_cells : int
        The largest number of cells that the report keeps per tensor; of all tensors, if cells are ordered.
    most_cells : int, optional
        The largest number of cells to show per tensor; of all tensors, if cells are ordered. None for no limit.
    policy : Policy
        The limits for the input files.
    execution : Execution
        Where and how the task runs.
    """

    tensors: tuple[str | Listing, ...] = ()
    random: Draw | None = None
    statistics: tuple[str, ...] = ()
    ddof: int = 0
    cutting: Cutting = WHOLE
    bins: int | None = None
    scale: Scale = "linear"
    picture: int | None = None
    zeros: bool = False
    expect: tuple[Condition, ...] = ()
    manifest: str | None = None
    match: str | None = None
    choice: Choice = EVERY_ROW
    total: bool = False
    keep_cells: int = 1000
    most_cells: int | None = None
    policy: Policy = STRICT
    execution: Execution = ON_THREADS


class Pairing(NamedTuple):
    """How the tensors of two files or folders are paired and judged.

    Attributes
    ----------
    renames : tuple of (str, str)
        Regular expressions and what replaces them in the names of A, in turn.
    match : str, optional
        A pattern that names must match, after they were replaced.
    fail_fast : bool
        Whether to stop at the first difference.
    only_different : bool
        Whether pairs that are the same are left out of the report.
    unchanged, changed : tuple of str
        Patterns of names whose pairs must be identical, or must not.
    """

    renames: tuple[tuple[str, str], ...] = ()
    match: str | None = None
    fail_fast: bool = False
    only_different: bool = False
    unchanged: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


BY_NAME = Pairing()


class Criteria(NamedTuple):
    """What makes two tensors the same, instead of or besides a tolerance.

    Attributes
    ----------
    baseline : str or Listing, optional
        The tensor that an accepted implementation gives, or a file or folder of such tensors: the largest error may be
        `factor` times its own, and the rounding floor.
    factor : float, optional
        By default 2.
    max_ulp : int, optional
        The largest distance from B, rounded to the dtype of A, in units of that dtype.
    near_zero : float, optional
        Below it distances are absolute; by default the smallest normal number of that dtype.
    exact : bool
        Whether dtype, shape and every bit must be equal.
    faithful : bool
        Whether each element must be one of the two neighbours of that of B in the dtype of A.
    allow_vacuous : bool
        Whether tensors may be the same where a tensor of zeros would be.
    """

    baseline: str | Listing | None = None
    factor: float | None = None
    max_ulp: int | None = None
    near_zero: float | None = None
    exact: bool = False
    faithful: bool = False
    allow_vacuous: bool = False


BY_TOLERANCE = Criteria()


class Diff(NamedTuple):
    """The parameters of ``diff``.

    Attributes
    ----------
    a, b : str or Listing
        The tensors, or files and folders of tensors, as the command line names them, or open already; `b` is the
        reference.
    rtol, atol : float, optional
        An element is outside where |a - b| > atol + rtol |b|; the defaults are those of the coarser dtype.
    max_fraction : float
        The tensors are the same if at most this fraction of the elements is outside.
    nan_differs : bool
        Whether a NaN differs from a NaN.
    criteria : Criteria
        What makes the tensors the same, instead of or besides the tolerance.
    layouts : tuple of (str, str), optional
        The layouts of A and of B, with the same letters: the axes of B are taken in the order of those of A.
    cutting : Cutting
        The cells of each tensor.
    pairing : Pairing
        How many tensors are paired.
    statistics : tuple of str
        The names of the numbers to show, in that order; an empty tuple is the default ones.
    choice : Choice
        Which cells or pairs are shown, by their numbers; they are ordered by one of these, or ``name``.
    bins : int, optional
        The number of bins of a histogram of a - b; None for no histogram.
    scale : {"linear", "exponent", "log"}
        The bins of the histogram: of a - b, or of |a - b| by powers of two or by its logarithm.
    picture : int, optional
        The number of bins of the histogram in a picture; None for no picture.
    page : int, optional
        The number of bins of the histogram of each pair that differs, in a page; None for no page.
    most_cells : int, optional
        The largest number of cells; None for the limit of open cells.
    most_pairs : int, optional
        The number of pairs that the report keeps; None for all.
    output : Output
        The file for a - b.
    dtype : str, optional
        The dtype of a - b there; by default that of both tensors if they are floating, else float64.
    policy : Policy
        The limits for the input files.
    execution : Execution
        The number of threads, and their tile.
    """

    a: str | Listing
    b: str | Listing
    rtol: float | None = None
    atol: float | None = None
    max_fraction: float = 0.0
    nan_differs: bool = False
    criteria: Criteria = BY_TOLERANCE
    layouts: tuple[str, str] | None = None
    cutting: Cutting = WHOLE
    pairing: Pairing = BY_NAME
    statistics: tuple[str, ...] = ()
    choice: Choice = EVERY_ROW
    bins: int | None = None
    scale: Scale = "linear"
    picture: int | None = None
    page: int | None = None
    most_cells: int | None = None
    most_pairs: int | None = None
    output: Output = NO_OUTPUT
    dtype: str | None = None
    policy: Policy = STRICT
    execution: Execution = ON_THREADS


class Explain(NamedTuple):
    """The parameters of ``explain``.

    Attributes
    ----------
    y : str
        The output to explain, as the command line names it.
    given : str
        The input, or another output of it.
    is_input : bool
        Whether `given` is the input.
    norm : GroupNorm
        The groups, eps, layout and denominator that were meant; of `given`, where it is an output.
    gamma, beta : str or float
        A number, or a tensor of shape (C,).
    policy : Policy
        The limits for the input files.
    execution : Execution
        The number of threads, and their tile.
    """

    y: str
    given: str
    is_input: bool
    norm: GroupNorm
    gamma: str | float = 1.0
    beta: str | float = 0.0
    policy: Policy = STRICT
    execution: Execution = ON_THREADS


class Normalize(NamedTuple):
    """The parameters of ``normalize``.

    Attributes
    ----------
    tensor : str or Draw
        The tensor, as the command line names it, or a random tensor.
    norm : GroupNorm
        The groups, eps, layout and denominator.
    scaling : Scaling
        How gamma and beta are applied.
    gamma, beta : str or float
        A number, or a tensor with the axes that `scaling` says, such as (C,).
    mean, var : str or float, optional
        A number, or a tensor of shape (C,), if ``norm.given``.
    dtype : str, optional
        The dtype of the result; by default that of a floating input, else ``np.result_type(input, np.float32)``.
    output : Output
        The file for the result.
    save_moments : str, optional
        A .npz file for the arrays mean, var and rstd, of shape (N, G).
    stages : bool
        Whether every stage of the computation is described.
    verify : bool
        Whether the result is checked.
    zeros : bool
        Whether zeros are counted before and after.
    bins : int, optional
        The number of bins of the histograms before and after; None for no histograms.
    scale : {"linear", "exponent", "log"}
        The bins of these histograms: of x, or of |x| by powers of two or by its logarithm.
    picture : int, optional
        The number of bins of the histograms in a picture; None for no picture.
    policy : Policy
        The limits for the input files.
    execution : Execution
        Where and how the task runs.
    """

    tensor: str | Draw
    norm: GroupNorm
    scaling: Scaling
    gamma: str | float = 1.0
    beta: str | float = 0.0
    mean: str | float | None = None
    var: str | float | None = None
    dtype: str | None = None
    output: Output = NO_OUTPUT
    save_moments: str | None = None
    stages: bool = False
    verify: bool = True
    zeros: bool = False
    bins: int | None = None
    scale: Scale = "linear"
    picture: int | None = None
    policy: Policy = STRICT
    execution: Execution = ON_THREADS


class Backward(NamedTuple):
    """The parameters of ``backward``.

    Attributes
    ----------
    x, dy : str
        The input of the forward pass, and the gradient of its output, as the command line names them.
    norm : GroupNorm
        The groups, eps, layout and denominator.
    scaling : Scaling
        How gamma and beta were applied.
    gamma : str or float
        A number, or a tensor with the axes that `scaling` says, such as (C,).
    beta : str or float
        The same; it changes no gradient.
    mean, var : str or float, optional
        A number, or a tensor of shape (C,), if ``norm.given``.
    dtype : str, optional
        The dtype of dx; by default that of a floating x, else ``np.result_type(x, np.float32)``.
    param_dtype : str, optional
        The dtype of dgamma and dbeta; by default float32 for half precision, else that of dx by default.
    output : Output
        The file for dx.
    dgamma, dbeta : str, optional
        The files for the others; `output` says how they are written too.
    verify : bool
        Whether the result is checked.
    zeros : bool
        Whether zeros are counted.
    policy : Policy
        The limits for the input files.
    execution : Execution
        The number of threads, and their tile.
    """

    x: str
    dy: str
    norm: GroupNorm
    scaling: Scaling
    gamma: str | float = 1.0
    beta: str | float = 0.0
    mean: str | float | None = None
    var: str | float | None = None
    dtype: str | None = None
    param_dtype: str | None = None
    output: Output = NO_OUTPUT
    dgamma: str | None = None
    dbeta: str | None = None
    verify: bool = True
    zeros: bool = False
    policy: Policy = STRICT
    execution: Execution = ON_THREADS


class Random(NamedTuple):
    """The parameters of ``random``.

    Attributes
    ----------
    draw : Draw
        The shape, distribution, seed and dtype of the tensor.
    output : Output
        The file for the tensor.
    statistics : tuple of str
        The names of the statistics, in the order to show; an empty tuple is the default statistics.
    zeros : bool
        Whether zeros are counted, if a statistic of the data is requested.
    network : Network
        How an object on a store is written.
    execution : Execution
        The number of threads, and their tile.
    """

    draw: Draw
    output: Output = NO_OUTPUT
    statistics: tuple[str, ...] = ()
    zeros: bool = False
    network: Network = ON_NETWORK
    execution: Execution = ON_THREADS
