"""Writes the small data set of the tests as the ancestor's preprocessing would, and as it would not.

old.hdf5      as h5py writes by default and did for the ancestor: int64, the oldest file format
packed.hdf5   int32, in compressed chunks
latest.hdf5, resizable.hdf5   as the newest HDF5 does it if it may: compressed, and without limits
"""
import sys

import h5py
import numpy as np

DATA = dict(
    source=[[3, 5, 4, 1, 1, 1], [3, 6, 4, 1, 1, 1], [3, 5, 6, 4, 1, 1], [3, 7, 5, 4, 1, 1], [3, 5, 6, 7, 4, 1]],
    target=[[3, 5, 6, 4, 1, 1], [3, 7, 4, 1, 1, 1], [3, 8, 4, 1, 1, 1], [3, 8, 7, 6, 5, 4], [3, 5, 4, 1, 1, 1]],
    target_output=[[5, 6, 4, 1, 1, 1], [7, 4, 1, 1, 1, 1], [8, 4, 1, 1, 1, 1], [8, 7, 6, 5, 4, 1], [5, 4, 1, 1, 1, 1]],
    target_l_all=[4, 3, 3, 6, 3], batch_idx=[1, 3, 5], batch_l=[2, 2, 1], batch_w=[3, 4, 5], target_l=[4, 6, 3],
    target_nonzeros=[5, 7, 2], source_size=[7], target_size=[8],
)

folder = sys.argv[1]
with h5py.File(folder + "/old.hdf5", "w") as f:
    for name, values in DATA.items():
        f[name] = np.array(values, dtype=np.int64)
with h5py.File(folder + "/packed.hdf5", "w") as f:
    for name, values in DATA.items():
        values = np.array(values, dtype=np.int32)
        chunks = (2, 4) if values.ndim == 2 else (2,)
        f.create_dataset(name, data=values, chunks=chunks, compression="gzip", shuffle=True, maxshape=(None,) + values.shape[1:])
for name, options in dict(latest=dict(compression="gzip"), resizable={}).items():
    with h5py.File(f"{folder}/{name}.hdf5", "w", libver="latest") as f:
        for key, values in DATA.items():
            values = np.array(values, dtype=np.int64)
            limits = options or dict(maxshape=(None,) * values.ndim)
            f.create_dataset(key, data=values, chunks=True, **limits)
