"""All that must pass: ``python -m tests``. Lint, format, types, the reference, then every test with branch coverage.

``python -m tests quick`` runs the quick subset: every law and format, without the goldens, without whole tables, and
without what takes seconds. ``python -m tests portable`` runs the goldens with it: what further Python versions run.

Temporary files are in memory where there is room: the tests make and remove thousands, and would wait for the disk.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from gncli.kernels import native

REFERENCE = "gncli/docs/reference.md"
WRITE_IT = f"write it anew: python -m cogapp -r {REFERENCE}"

PYTEST = ("pytest", "-q", "-n", "auto", "--dist", "worksteal")
CLUSTER = ("tests/run/test_cluster.py", "tests/io/remote/test_folder.py")  # who has tests with this mark

CHECKS = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
    ("cogapp", "--check", "--check-fail-msg", WRITE_IT, REFERENCE),
    ("coverage", "erase"),
    ("coverage", "run", "-m", *PYTEST, "-m", "cluster", *CLUSTER),
    ("coverage", "run", "-m", *PYTEST),
    ("coverage", "combine", "-q"),
    ("coverage", "report"),
    (*PYTEST, "tests/test_golden.py"),
)
PLAIN = CHECKS[-1]  # the goldens once more, without the compiled loops
SUBSETS = {
    "quick": ((*PYTEST, "-m", "not slow and not soak and not cluster"),),
    "portable": ((*PYTEST, "-m", "(not slow or golden) and not soak and not cluster"),),
}
MEMORY, ROOM = "/dev/shm", 8 << 30


@contextlib.contextmanager
def temporary() -> Iterator[dict[str, str]]:
    """Give the environment in which temporary files are in memory; it is empty where one is named, or room is short."""
    if "TMPDIR" in os.environ or not fit(MEMORY):
        yield {}
    else:
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            yield {"TMPDIR": folder}


def fit(folder: str) -> bool:
    """Return whether tests may have their files in a folder: there is room, and programs can be run."""
    if not os.path.isdir(folder):
        return False
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize >= ROOM and not found.f_flag & getattr(os, "ST_NOEXEC", 0)


def main(arguments: list[str]) -> int:
    """Run the checks."""
    if arguments and arguments not in [[name] for name in SUBSETS]:
        print(f"usage: python -m tests [{'|'.join(SUBSETS)}]", file=sys.stderr)
        return 2
    with temporary() as environment:
        return run(SUBSETS[arguments[0]] if arguments else CHECKS, os.environ | environment)


def run(checks: tuple[tuple[str, ...], ...], inherited: Mapping[str, str]) -> int:
    """Run the checks in turn, and stop at the first that fails."""
    for check in checks:
        environment = {"GNCLI_KERNEL": "plain"} if check is PLAIN else {}
        # Where there is no compiler, what calls the compiled loops cannot be covered.
        missing = (
            ("--omit", "gncli/kernels/native.py") if check == ("coverage", "report") and not native.bodies() else ()
        )
        print("$", *(f"{name}={value}" for name, value in environment.items()), *check, *missing, flush=True)
        status = subprocess.run(
            [sys.executable, "-m", *check, *missing],
            cwd=Path(__file__).parent.parent,
            env={**inherited, **environment},
            check=False,
        ).returncode
        if status:
            print("failed:", *check)
            return status
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
