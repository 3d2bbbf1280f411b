"""How `native.c` is compiled: by hatchling when the package is built, or in place by ``python -m gncli.kernels.build``.

Nothing of gncli is imported here: a build has nothing installed yet. Without a compiler the package is built without
the library, and runs on `plain`.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zlib
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface as _Hook
except ImportError:  # only a build has it
    _Hook = object

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
    """Compile `native.c` into `target`, whole or not at all; return None, or why it could not be done."""
    try:
        command = compiler()
        if command is None:
            return "no C compiler was found"
        with tempfile.TemporaryDirectory(prefix=".native-", dir=target.parent) as folder:
            made = Path(folder, target.name)
            done = subprocess.run(  # noqa: S603  # the compiler of whoever builds
                [*command, *FLAGS, f"-DSOURCE={checksum()}u", *flags, str(SOURCE), "-o", str(made)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
            )
            if done.returncode:
                return f"{command[0]} failed: {done.stdout.strip()}"
            made.replace(target)
    except (OSError, ValueError) as error:  # ValueError: a quotation mark in $CC is not closed
        return f"the C compiler could not be run ({error})"
    return None


def checksum() -> int:
    """Return the checksum of what a library is made from, `native.c` and the flags here. `native` compares it."""
    return zlib.crc32(SOURCE.read_bytes() + Path(__file__).read_bytes())


def wheel_tag() -> str:
    """Return the tag of a wheel with the library: for every Python 3 on this platform."""
    name = sysconfig.get_platform().replace("universal2", platform.machine())
    return f"py3-none-{name.replace('-', '_').replace('.', '_')}"


class NativeHook(_Hook):  # type: ignore[misc]  # hatchling is not installed where types are checked
    """Adds the compiled library to a wheel; an editable install gets it in place."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say so in `build_data`; without a compiler the wheel stays pure."""
        self.folder = Path(tempfile.mkdtemp())
        target = LIBRARY if version == "editable" else self.folder / LIBRARY.name
        problem = compiled(target)
        if problem:
            self.app.display_warning(f"gncli runs without compiled loops, on NumPy: {problem.splitlines()[0]}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = wheel_tag()
        if version != "editable":
            build_data["force_include"][str(target)] = f"gncli/kernels/{LIBRARY.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what the wheel took."""
        shutil.rmtree(self.folder)


if __name__ == "__main__":
    sys.exit(compiled(LIBRARY))
