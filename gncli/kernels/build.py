"""How `native.c` is compiled: when the package is built, or in place by ``python -m gncli.kernels.build``."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("native.c")
LIBRARY = SOURCE.with_name("native.bin")  # with .so, Python would take it for a module
# Without the last two, GCC contracts products and sums in some bodies and not in others.
FLAGS = "-std=c11 -O3 -fPIC -shared -fvisibility=hidden -fno-math-errno -fno-trapping-math -ffp-contract=off".split()


def compiler() -> list[str] | None:
    """Return the command of the C compiler, ``$CC`` or else the first one on the path; None if there is none."""
    named = shlex.split(os.environ.get("CC", ""))
    found = [shutil.which(name) for name in ("cc", "gcc", "clang")]
    return named or next(([path] for path in found if path), None)


def compiled(target: Path, *flags: str) -> str | None:
    """Compile `native.c` into `target`; return None, or why it could not be done."""
    command = compiler()
    if command is None:
        return "no C compiler was found"
    try:
        done = subprocess.run(  # noqa: S603 - the compiler of whoever builds
            [*command, *FLAGS, *flags, str(SOURCE), "-o", str(target), "-lm"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except OSError as error:
        return str(error)
    return done.stdout or "the compiler failed" if done.returncode else None


if __name__ == "__main__":
    sys.exit(compiled(LIBRARY))
