"""Small files that other libraries made; `python -m tests.data` makes them anew."""
