#!/usr/bin/env python3
"""MNIST's pickle to array files: fetch_mnist.py MNIST_PKL_GZ FOLDER. Needs nothing but Python's own library.

The pickle holds ((images, labels) of train, valid, test), images as float32 grey / 256. A pickle may name any function
to call, so only the three names that arrays are made of are answered, and by stand-ins that merely keep bytes.
"""

import array
import gzip
import pathlib
import pickle
import struct
import sys


class Dtype:
    """Stands in for numpy.dtype: keeps the element type's name."""

    def __init__(self, name: bytes, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        pass


class Array:
    """Stands in for numpy.ndarray: keeps shape, element type and bytes."""

    def __setstate__(self, state: tuple) -> None:
        _version, self.shape, self.dtype, fortran, self.data = state
        assert not fortran, "an array ordered by column"


class Arrays(pickle.Unpickler):
    """Unpickles tuples of arrays and refuses everything else."""

    NAMES = {
        ("numpy.core.multiarray", "_reconstruct"): lambda *_: Array(),
        ("numpy", "ndarray"): Array,
        ("numpy", "dtype"): Dtype,
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.NAMES:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return self.NAMES[module, name]


def grey_levels(images: Array) -> bytes:
    """Floats grey / 256 as bytes, each float checked to be exactly such a number."""
    assert images.dtype.name == b"f4" and images.shape[1] == 784
    bits = array.array("I", images.data)
    level_of = {}
    for pattern in set(bits):
        grey = struct.unpack("f", struct.pack("I", pattern))[0] * 256
        assert grey == int(grey) and 0 <= grey <= 255, f"{grey / 256} is no grey level / 256"
        level_of[pattern] = int(grey)
    return bytes(map(level_of.__getitem__, bits))


def write_npy(path: pathlib.Path, shape: tuple, data: bytes) -> None:
    """Writes bytes as NumPy's format, version 1."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    header = header.ljust(117).encode() + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data)


def main() -> None:
    source, folder = map(pathlib.Path, sys.argv[1:])
    with gzip.open(source) as packed:
        splits = Arrays(packed, encoding="bytes").load()
    for name, (images, labels) in zip(("train", "valid", "test"), splits, strict=True):
        count = images.shape[0]
        assert labels.dtype.name == b"i8" and labels.shape == (count,)
        write_npy(folder / f"{name}-levels.npy", (count, 28, 28), grey_levels(images))
        write_npy(folder / f"{name}-labels.npy", (count,), bytes(array.array("q", labels.data).tolist()))
        print(f"{name}: {count} images", file=sys.stderr)


main()
