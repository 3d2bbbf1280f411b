"""The benchmark of gncli against what it is measured by: ``python -m tests.benchmarks``."""
