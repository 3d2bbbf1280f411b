"""A fuzzer of the .npy reader; what it found lies in `found`."""
