"""Numerical kernels: they work on NumPy arrays, and know no files, reports or signals."""
