"""Reads a prepared file as the reference trainer does, and prints schema and batches as JSON."""
import json
import sys

import h5py

with h5py.File(sys.argv[1], "r") as f:
    schema = {name: [str(data.dtype), list(data.shape)] for name, data in f.items()}
    d = {name: f[name][:] for name in f}

batches = []
for first, rows, source_len, target_len in zip(d["batch_idx"], d["batch_l"], d["batch_w"], d["target_l"]):
    cut = slice(first - 1, first - 1 + rows)
    widths = dict(source=source_len, target=target_len, target_output=target_len)
    batches.append({name: d[name][cut, :width].flatten().tolist() for name, width in widths.items()})
    assert (d["target_output"][cut] != 1).sum() == d["target_nonzeros"][len(batches) - 1]
    assert d["target_l_all"][cut].max() == target_len
json.dump(dict(schema=schema, batches=batches), sys.stdout)
