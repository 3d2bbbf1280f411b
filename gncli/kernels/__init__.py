"""Pure numbers: NumPy and nothing of files, reports or signals."""
