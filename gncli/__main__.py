"""The program: ``gncli``, and ``python -m gncli``."""

from __future__ import annotations

import sys

from gncli import cli


def main() -> int:
    """Run gncli as the program of this process, and return its exit status."""
    return cli.main(program=True)


if __name__ == "__main__":
    sys.exit(main())
