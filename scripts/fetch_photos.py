#!/usr/bin/env python3
"""Photographs out of unpacked Debian packages: fetch_photos.py README SHARE FOLDER. Needs nothing but Python's own library.

A row of the README's table names a photograph and its path within SHARE. A path `FILE.rcc:/INNER` lies within a Qt resource
file: a tree of big-endian nodes (name, then children or data), names and data, each found by its offset.
"""

import functools
import pathlib
import re
import struct
import sys
from collections.abc import Iterator

DIRECTORY = 2
COMPRESSED = 1 | 4


@functools.cache
def resources(path: pathlib.Path) -> dict[str, bytes]:
    """All uncompressed files within a Qt resource file, by their paths."""
    content = path.read_bytes()
    magic, version, tree, data, names = struct.unpack_from(">4s4I", content)
    assert magic == b"qres" and 1 <= version <= 3, f"{path}: not a Qt resource file of version 1 to 3"
    size = 14 if version == 1 else 22

    def name(node: int) -> str:
        at = names + struct.unpack_from(">I", content, tree + node * size)[0]
        length = struct.unpack_from(">H", content, at)[0]
        return content[at + 6 : at + 6 + 2 * length].decode("utf-16-be")

    def walk(node: int, path: str) -> Iterator[tuple[str, bytes]]:
        flags = struct.unpack_from(">H", content, tree + node * size + 4)[0]
        if flags & DIRECTORY:
            count, first = struct.unpack_from(">2I", content, tree + node * size + 6)
            for child in range(first, first + count):
                yield from walk(child, f"{path}/{name(child)}")
        elif not flags & COMPRESSED:
            at = data + struct.unpack_from(">I", content, tree + node * size + 10)[0]
            length = struct.unpack_from(">I", content, at)[0]
            yield path, content[at + 4 : at + 4 + length]

    return dict(walk(0, ""))


def main() -> None:
    table, share, folder = map(pathlib.Path, sys.argv[1:])
    rows = re.findall(r"^\| (\S+\.(?:jpg|webp)) \| `(\S+)` ", table.read_text(), re.M)
    for name, path in rows:
        outer, _, inner = path.partition(":")
        file = share / outer
        (folder / name).write_bytes(resources(file)[inner] if inner else file.read_bytes())
    print(f"{len(rows)} photographs", file=sys.stderr)


main()
