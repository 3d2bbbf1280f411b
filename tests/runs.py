"""Tasks and plans by keywords, as tests call them; and the type of what runs a command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from gncli.inputs import Draw
from gncli.io.source import Order, Source
from gncli.kernels.affine import Scaling
from gncli.kernels.extras import Extras
from gncli.kernels.groupnorm import GroupNorm
from gncli.kernels.moments import Moments, MomentsOf
from gncli.kernels.partition import Partition
from gncli.kernels.reduction import concatenate
from gncli.kernels.walk import Region
from gncli.report.diff_records import DiffReport
from gncli.report.normalize_records import NormalizeReport
from gncli.report.pair_records import PairsReport
from gncli.report.records import Cell, StatsReport, TensorStats
from gncli.run.engine import Engine, Job, Result, Step
from gncli.run.plan import Plan
from gncli.tasks import by as tasks_by
from gncli.tasks.by import By
from gncli.tasks.diff import DiffRun
from gncli.tasks.normalize import NormalizeRun
from gncli.tasks.random import RandomRun
from gncli.tasks.requests import Choice, Criteria, Cutting, Diff, Execution, Normalize, Output, Pairing, Random, Stats
from gncli.tasks.stats import StatsRun

Run = Callable[..., tuple[int, str, str]]
"""A command line, and words more; it returns status, stdout and stderr. The fixture `run` is one."""

CUTTING = ("by", "layout", "num_groups", "group_size")
NORM = ("num_groups", "group_size", "eps", "layout", "denominator", "interleaved", "over", "rms", "given")
SCALING = ("gamma_axes", "gamma_per_group", "gamma_offset", "round_before_affine", "activation")
OUTPUT = ("output", "force", "in_place", "compression")
CRITERIA = ("baseline", "factor", "max_ulp", "near_zero", "exact", "faithful", "allow_vacuous")
CHOICE = ("where", "sort", "top")
PAIRING = ("renames", "match", "fail_fast", "only_different", "unchanged", "changed")
EXECUTION = ("workers", "tile", "executor", "scheduler")


def measure(source: Source, partition: Partition, engine: Engine, *names: str) -> Moments:
    """Return the moments of the cells of `partition`, in storage order, with the extras behind `names`."""
    extras = Extras(frozenset(names), source.shape, source.order) if names else None
    return concatenate(list(Plan.of(source, partition, engine).reduce(MomentsOf(source.dtype, extras))))


def ran(engine: Engine, job: Job[Result], source: Source, regions: Iterable[Region]) -> Iterator[tuple[Region, Result]]:
    """Yield each of `regions` with the result of `job`, in order."""
    for step, result in engine.run(source, (Step(job, region) for region in regions)):
        yield step.region, result


def stats(
    tensors: Sequence[str], *, on_cells: Callable[[TensorStats, list[Cell]], None] | None = None, **given: Any
) -> StatsReport:
    """Return the report of ``stats``."""
    run = StatsRun(Stats(tensors=tuple(tensors), **_grouped(given)))
    for tensor, cells in run.cells():
        if on_cells is not None and isinstance(tensor, TensorStats):
            on_cells(tensor, cells)
    return run.report()


def diff(a: str, b: str, **given: Any) -> DiffReport:
    """Return the report of ``diff``."""
    with DiffRun(Diff(a=a, b=b, **_grouped(given))) as run:
        report = run.report()
        run.commit()
    assert isinstance(report, DiffReport)
    return report


def diff_many(a: str, b: str, **given: Any) -> PairsReport:
    """Return the report of ``diff`` about the tensors of two files or folders."""
    pairing = {name: given.pop(name) for name in PAIRING if name in given}
    with DiffRun(Diff(a=a, b=b, pairing=Pairing(**pairing), **_grouped(given))) as run:
        report = run.report()
        run.commit()
    assert isinstance(report, PairsReport)
    return report


def normalize(tensor: str | Draw, **given: Any) -> NormalizeReport:
    """Return the report of ``normalize``."""
    norm = GroupNorm(**{name: given.pop(name) for name in NORM if name in given})
    scaling = Scaling(**{name: given.pop(name) for name in SCALING if name in given})
    with NormalizeRun(Normalize(tensor=tensor, norm=norm, scaling=scaling, **_grouped(given))) as run:
        report = run.report()
        run.commit()
    return report


def random(draw: Draw, **given: Any) -> StatsReport:
    """Return the report of ``random``."""
    with RandomRun(Random(draw=draw, **_grouped(given))) as run:
        report = run.report()
        run.commit()
    return report


def _grouped(given: dict[str, Any]) -> dict[str, Any]:
    groups: dict[str, Any] = {}
    for name, kind, fields in (
        ("cutting", Cutting, CUTTING),
        ("criteria", Criteria, CRITERIA),
        ("choice", Choice, CHOICE),
        ("execution", Execution, EXECUTION),
        ("output", Output, OUTPUT),
    ):
        if some := {field: given.pop(field) for field in fields if field in given}:
            if "output" in some:
                some["path"] = some.pop("output")
            groups[name] = kind(**some)
    for name in ("statistics", "expect"):
        if name in given:
            given[name] = tuple(given[name])
    return {**given, **groups}


def cut(
    by: str, shape: tuple[int, ...], order: Order, layout: str | None = None, num_groups: int | None = None, **more: int
) -> By:
    """Return the cells of ``--by``."""
    return tasks_by.cut(Cutting(by=by, layout=layout, num_groups=num_groups, **more), shape, order)


def the_one(report: Any) -> TensorStats:
    """Return the statistics of the only tensor of a report."""
    (found,) = report.tensors
    assert isinstance(found, TensorStats)
    return found
