"""Fuzzers of parsers, whose finds lie in `found`, and random commands."""
