"""HDF5: the one place that imports h5py.

`reading` and `datasets` read a file, `guard` protects this process from what libhdf5 may do then, `writing` writes.
"""

from __future__ import annotations

import os

# Before h5py is imported: no filter plugins, which would be code from outside, and no failure where locks do not work.
os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "BEST_EFFORT")

from gncli.io.formats.hdf5.guard import GuardedHdf5File, names_in
from gncli.io.formats.hdf5.reading import VERSIONS
from gncli.io.formats.hdf5.writing import check_replaceable, hdf5_sink

__all__ = ["VERSIONS", "GuardedHdf5File", "check_replaceable", "hdf5_sink", "names_in"]
