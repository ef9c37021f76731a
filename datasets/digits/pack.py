#!/usr/bin/env python3
"""Packs the digits of a scikit-learn wheel: pack.py WHEEL writes digits.bin.gz beside this script.

Unpacked, the file is 1,797 images of 8 x 8 bytes in raster order, each 0..=16, then 1,797 labels of one byte.
"""

import gzip
import hashlib
import pathlib
import sys
import zipfile

CSV_SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"


def main() -> None:
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        packed = wheel.read("sklearn/datasets/data/digits.csv.gz")
    if hashlib.sha256(packed).hexdigest() != CSV_SHA256:
        sys.exit("digits.csv.gz: its sha256 is not the one this script was written for")
    rows = [[int(float(field)) for field in line.split(b",")] for line in gzip.decompress(packed).splitlines()]
    levels = bytes(level for row in rows for level in row[:64])
    labels = bytes(row[64] for row in rows)
    out = pathlib.Path(__file__).with_name("digits.bin.gz")
    out.write_bytes(gzip.compress(levels + labels, 9, mtime=0))
    print(f"{out}: {out.stat().st_size} bytes, sha256 {hashlib.sha256(out.read_bytes()).hexdigest()}")


main()
