"""``python -m tests.benchmarks [CASE ...]``: makes inputs, runs all competitors in turns, prints medians and ratios.

Nothing is asserted: the numbers stand in the README, with the machine that they come from.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from fnmatch import fnmatch
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

import gncli
from gncli.kernels.native import BODIES
from tests.benchmarks import in_memory
from tests.benchmarks.cases import CASES, Case, Place, Target
from tests.benchmarks.inputs import INPUTS
from tests.benchmarks.processes import Sample, Skipped, run

WIDTH = 132


def main() -> int:
    """Run the cases that were named, or all of them."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or the inputs, some GB, would stay
    console = Console(width=WIDTH if not sys.stdout.isatty() else None, highlight=False)
    names = [name for name in CASES if any(fnmatch(name, glob) for glob in arguments.case or ["*"])]
    if not names:
        console.print(f"no such case; there are: {', '.join(CASES)}", markup=False)
        return 2
    if arguments.kernel:
        os.environ["GNCLI_KERNEL"] = arguments.kernel
    console.print(f"{_machine()}, kernel {gncli.kernel()}", markup=False)
    document: dict[str, Any] = {"machine": _machine(), "kernel": gncli.kernel(), "scale": arguments.scale, "cases": {}}
    rows = ["| case | gncli | for comparison | ratio | target |"]
    with tempfile.TemporaryDirectory(prefix="gncli-benchmark-", dir=arguments.directory) as directory:
        inputs: dict[str, str] = {}
        cases = {name: CASES[name]() for name in names}
        for done, (name, case) in enumerate(cases.items()):
            _make_inputs(case, inputs, directory, arguments.scale)
            place = Place(inputs, os.path.join(directory, "out"), arguments.python_with_torch)
            samples, skipped = _measured(case, place, arguments.rounds)
            console.print(_table(name, case, samples, skipped))
            document["cases"][name] = _document(case, samples, skipped)
            rows += _rows(name, case, samples)
            later = {wanted for other in list(cases.values())[done + 1 :] for wanted in other.inputs}
            for old in set(inputs) - later:
                _discard(inputs.pop(old))
        if arguments.stages:
            _make_inputs(CASES["normalize float32"](), inputs, directory, arguments.scale)
            script = [sys.executable, "-m", "tests.benchmarks.stages", "normalize", inputs["float32"]]
            output = os.path.join(directory, "out.npy")
            found = subprocess.run([*script, "-G", "4", "-o", output], check=True, capture_output=True, text=True)
            document["stages"] = json.loads(found.stdout)
            console.print(_stages(document["stages"]))
    if arguments.in_memory:
        document["in memory"] = medians = in_memory.medians(arguments.python_with_torch, 4 * arguments.rounds)
        console.print(in_memory.line(*medians), markup=False)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as out:
            json.dump(document, out, indent=1)
    if arguments.markdown:
        with open(arguments.markdown, "w", encoding="utf-8") as out:
            out.write(f"{rows[0]}\n|---|---|---|---|---|\n" + "".join(f"{row}\n" for row in rows[1:]))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("case", nargs="*", metavar="CASE", help=f"a name or a pattern: {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=5, help="how often each competitor runs (5)")
    parser.add_argument("--scale", type=float, default=1.0, help="how large the inputs are (1)")
    parser.add_argument("--json", metavar="FILE", help="write all numbers to a file")
    parser.add_argument("--python-with-torch", default=sys.executable, metavar="PYTHON", help="another interpreter")
    parser.add_argument("--kernel", choices=("plain", "native", *BODIES), help="set GNCLI_KERNEL for gncli")
    parser.add_argument("--directory", help="where the temporary directory is made; its disk is what is measured")
    parser.add_argument("--in-memory", action="store_true", help="compare gncli.group_norm with PyTorch's too")
    parser.add_argument("--markdown", metavar="FILE", help="write the rows with a target to a file")
    parser.add_argument("--no-stages", dest="stages", action="store_false", help="leave out the time by stage")
    return parser.parse_args()


def _machine() -> str:
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{count} processors ({cpu}), {platform.system()} {platform.release()}, Python {platform.python_version()}"


def _make_inputs(case: Case, inputs: dict[str, str], directory: str, scale: float) -> None:
    """Make what is not there yet, and read it all, so that it is in the page cache."""
    for name in case.inputs:
        if name not in inputs:
            path = os.path.join(directory, name.replace(" ", "-").replace("'", "") + INPUTS[name].suffix)
            subprocess.run([sys.executable, "-m", "tests.benchmarks.inputs", name, str(scale), path], check=True)
            inputs[name] = path
        with open(os.devnull, "wb") as nowhere:
            subprocess.run(["find", inputs[name], "-type", "f", "-exec", "cat", "{}", "+"], stdout=nowhere, check=True)


def _discard(path: str) -> None:
    shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def _measured(case: Case, place: Place, rounds: int) -> tuple[dict[str, list[Sample]], dict[str, str]]:
    """Return the samples of each competitor, and why some have none."""
    samples: dict[str, list[Sample]] = {name: [] for name in case.competitors}
    skipped: dict[str, str] = {}
    for _ in range(rounds):
        for name, words in case.competitors.items():
            if name in skipped:
                continue
            for leftover in _outputs(place):
                _discard(leftover)
            os.sync()  # nobody pays for what another one has written
            command = place.fill(words)
            try:
                if shutil.which(command[0]) is None:
                    raise Skipped(f"there is no {command[0]}")
                samples[name].append(run(command))
            except Skipped as why:
                skipped[name] = str(why)
    for leftover in _outputs(place):
        _discard(leftover)
    return samples, skipped


def _outputs(place: Place) -> Iterator[str]:
    return glob.iglob(f"{glob.escape(place.output)}.*")


def _seconds(samples: list[Sample]) -> float:
    return statistics.median(sample.seconds for sample in samples)


def _peak(samples: list[Sample]) -> int:
    return max(sample.peak for sample in samples)


def _ratio(target: Target, samples: dict[str, list[Sample]]) -> float | None:
    of, to = samples[target.of], samples[target.to]
    return _seconds(of) / _seconds(to) if of and to else None


def _table(name: str, case: Case, samples: dict[str, list[Sample]], skipped: dict[str, str]) -> Table:
    rounds = max(map(len, samples.values()))
    table = Table(title=f"{name} (medians of {rounds})", title_justify="left", box=box.ROUNDED)
    table.add_column()
    for heading in ("seconds", "fastest", "processor s", "peak MB"):
        table.add_column(heading, justify="right")
    table.add_column("ratio: target", overflow="fold")
    for competitor, found in samples.items():
        if competitor in skipped:
            table.add_row(competitor, "-", "-", "-", "-", f"skipped: {skipped[competitor]}")
            continue
        peak = _peak(found)
        cpu = statistics.median(sample.cpu for sample in found)
        numbers = [_seconds(found), min(sample.seconds for sample in found), cpu]
        remarks = []
        for target in case.targets:
            if target.of == competitor and (ratio := _ratio(target, samples)) is not None:
                verdict = "" if target.met(ratio) else ", missed"
                remarks.append(f"{ratio:.2f} x {target.to}: {target.text}{verdict}")
        if case.most_nbytes is not None:
            remarks.append(f"<= {case.most_nbytes / 1e6:g} MB{'' if peak <= case.most_nbytes else ', missed'}")
        if case.within_nbytes is not None:
            apart = peak - min(map(_peak, samples.values()))
            verdict = "" if apart <= case.within_nbytes else ", missed"
            remarks.append(f"{apart / 1e6:.1f} MB above the least: <= {case.within_nbytes / 1e6:g}{verdict}")
        table.add_row(competitor, *(f"{number:.3f}" for number in numbers), f"{peak / 1e6:.0f}", "; ".join(remarks))
    return table


def _rows(name: str, case: Case, samples: dict[str, list[Sample]]) -> Iterator[str]:
    """Yield a row of Markdown for each target: what is compared, in seconds and the first in MB, and the ratio."""
    for target in case.targets:
        if (ratio := _ratio(target, samples)) is not None:
            of, to = samples[target.of], samples[target.to]
            ours = f"`{target.of}` {_seconds(of):.2f} s, {_peak(of) / 1e6:.0f} MB"
            verdict = "" if target.met(ratio) else ", missed"
            row = f"| {name} | {ours} | `{target.to}` {_seconds(to):.2f} s | {ratio:.2f} | {target.text}{verdict} |"
            yield row.replace("cat x | ", "cat x \\| ")


def _document(case: Case, samples: dict[str, list[Sample]], skipped: dict[str, str]) -> dict[str, Any]:
    targets = [{**asdict(target), "ratio": _ratio(target, samples)} for target in case.targets]
    for target, found in zip(case.targets, targets, strict=True):
        found["met"] = None if found["ratio"] is None else target.met(found["ratio"])
    return {
        "samples": {name: [asdict(sample) for sample in found] for name, found in samples.items()},
        "skipped": skipped,
        "targets": targets,
    }


def _stages(found: dict[str, float]) -> Table:
    table = Table(title="time by stage, one worker, normalize float32", title_justify="left", box=box.ROUNDED)
    for heading in ("stage", "seconds"):
        table.add_column(heading, justify="right" if heading == "seconds" else "left")
    for stage, seconds in found.items():
        table.add_row(stage, f"{seconds:.3f}")
    return table


if __name__ == "__main__":
    raise SystemExit(main())
