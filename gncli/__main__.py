"""``python -m gncli``."""

from __future__ import annotations

import sys

from gncli.cli import main

if __name__ == "__main__":
    sys.exit(main())
