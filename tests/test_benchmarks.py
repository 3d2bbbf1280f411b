"""The benchmark runs: a small one, whose times nobody looks at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import scale
from tests.benchmarks.cases import CASES
from tests.benchmarks.inputs import INPUTS, make
from tests.benchmarks.processes import Skipped, run

RUN = ["normalize float32", "enclosure and check", "HDF5, chunks across groups", "Zarr, zstd", "memory"]
MAY_BE_SKIPPED = {"PyTorch's group_norm", "tensorstore"}


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks", "--rounds", "1", "--scale", "0.002", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_competitors_run_in_turns_and_leave_nothing_behind(tmp_path: Path) -> None:
    files = "--json", str(tmp_path / "found.json"), "--markdown", str(tmp_path / "found.md")
    done = benchmark(*RUN, "--kernel", "plain", *files, "--directory", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["found.json", "found.md"]
    found: dict[str, Any] = json.loads((tmp_path / "found.json").read_text())
    assert list(found["cases"]) == RUN
    assert found["kernel"] == "plain"
    assert "kernel plain" in done.stdout
    for name in RUN:
        case, known = found["cases"][name], CASES[name]()
        assert set(case["samples"]) == set(known.competitors)
        assert set(case["skipped"]) <= MAY_BE_SKIPPED
        for competitor, samples in case["samples"].items():
            assert len(samples) == (competitor not in case["skipped"])
            assert all(0 < sample["seconds"] < 60 and sample["peak"] > 1e6 for sample in samples)
            assert competitor in done.stdout
        for target in case["targets"]:
            assert {target["of"], target["to"]} <= set(known.competitors)
            assert (target["ratio"] is None) == bool({target["of"], target["to"]} & set(case["skipped"]))
    rows = (tmp_path / "found.md").read_text().splitlines()
    assert rows[:2] == ["| case | gncli | for comparison | ratio | target |", "|---|---|---|---|---|"]
    assert len(rows[2:]) == sum(t["ratio"] is not None for case in found["cases"].values() for t in case["targets"])
    stages = found["stages"]
    assert {"read", "moments", "map", "settle", "write"} <= set(stages)
    assert all(stages[stage] > 0 for stage in ("read", "moments", "map", "settle", "write", "sync"))
    assert sum(seconds for stage, seconds in stages.items() if stage != "all") == pytest.approx(stages["all"])


def test_an_unknown_case_shows_those_there_are() -> None:
    done = benchmark("nothing")
    assert (done.returncode, done.stderr) == (2, "")
    assert "no such case; there are: normalize float32, " in done.stdout


@pytest.mark.parametrize("name", CASES)
def test_every_case_is_about_what_there_is(name: str) -> None:
    case = CASES[name]()
    assert set(case.inputs) <= set(INPUTS)
    for target in case.targets:
        assert {target.of, target.to} <= set(case.competitors)
        assert (target.most is None) != (target.least is None)
        assert not target.met(0 if target.most is None else 1e9)
    words = " ".join(word for command in case.competitors.values() for word in command)
    assert all("{" + wanted + "}" in words for wanted in case.inputs)


def test_inputs_are_the_same_each_time(tmp_path: Path) -> None:
    for name in ("float16", "fortran", "chunks of h5py's choice", "tiny", "8 GB sparse", "50,000 tensors"):
        paths = [str(tmp_path / f"{turn}{INPUTS[name].suffix}") for turn in "ab"]
        for path in paths:
            make(name, 0.001, path)
        one, other = (Path(path).read_bytes() for path in paths)
        assert one == other, name
        for path in paths:
            os.unlink(path)


def test_a_competitor_that_fails_is_no_number() -> None:
    with pytest.raises(RuntimeError, match=r"status 3: broken"):
        run([sys.executable, "-c", "import sys; print('broken', file=sys.stderr); sys.exit(3)"])
    with pytest.raises(Skipped, match=r"No module named 'nowhere'"):
        run([sys.executable, "-c", "import nowhere"])
    with pytest.raises(Skipped, match=r"refused: .*--nothing"):
        run([sys.executable, "-m", "gncli", "stats", "--nothing"])


@pytest.mark.slow
def test_group_norm_in_memory_is_timed_in_turns(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(
        "from types import SimpleNamespace as N\nfrom_numpy = set_num_threads = abs\n"
        "nn = N(functional=N(group_norm=lambda t, groups: t))\n"
    )
    command = [sys.executable, "-m", "tests.benchmarks.in_memory", sys.executable, "2", "(2, 8, 4, 4)"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(tmp_path)}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "x its time (target 0.6)" in done.stdout


@pytest.mark.slow
def test_the_expectation_for_many_workers_follows_from_what_was_measured(tmp_path: Path) -> None:
    found = scale.measure(str(tmp_path), 8 << 20, 20)
    assert all(value > 0 for value in found)
    assert found.order_nbytes < 100_000
    assert found.result_nbytes < 100_000
    constants = scale.Constants(256 << 20, 1.0, 5000, 1000, 0.001, 0.001, 0.002)
    rows = dict(scale.expectation(constants, 100, 10e12, 20e9))
    assert rows["items of work"] == "37,253"
    assert rows["the workers compute for"] == "373 s"
    assert (rows["orders sent"], rows["moments moved to the caller"]) == ("186 MB", "37 MB")
    assert rows["the caller is busy for"] == "149 s"
    assert rows["so the limit is"] == "the file system: 17 minutes"
    assert dict(scale.expectation(constants, 10, 10e12, 20e9))["so the limit is"] == "the workers: 62 minutes"
    assert dict(scale.expectation(constants, 10000, 10e12, 1e15))["so the limit is"] == "the caller: 2 minutes"
