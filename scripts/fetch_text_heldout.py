#!/usr/bin/env python3
"""Lays text to measure on: fetch_text_heldout.py GUTENBERG RICH CARGO_SRC OUT writes prose.txt, python.txt and rust.txt.

None of it is in what scripts/fetch text lays. Each file is checked against the sha256 in this script.
"""

import hashlib
import pathlib
import sys

SIZE = 100_000
PYTHON = ["rich/table.py", "rich/text.py", "rich/layout.py"]
RUST = ["src/compiler/parser.rs", "src/environment.rs", "src/error.rs"]
SHA256 = {
    "prose.txt": "3f0ab4dbcc7e6316cc7a169056c0e0817787d5325bf66f3c368d8f00ef00ae8c",
    "python.txt": "410dd243afed80693bd7e72534ca549e664d1f5cc5ba83c2830e900c4126d9d3",
    "rust.txt": "b242979ab497558d1ab3368cbf9678197abe87a3def859d520828ee7df6316a3",
}


def prose(path: pathlib.Path) -> str:
    """The first paragraphs of a book, a line each, of SIZE bytes or just above."""
    text, taken = "", path.read_text(encoding="ascii").split("\n\n")
    for part in taken:
        paragraph = " ".join(part.split())
        if paragraph:
            text += paragraph + "\n\n"
        if len(text) >= SIZE:
            break
    return text[:-1]


def main() -> None:
    gutenberg, rich, cargo, out = (pathlib.Path(it) for it in sys.argv[1:])
    crate = next(iter(sorted(cargo.glob("*/minijinja-2.24.0"))), None)
    if crate is None:
        sys.exit("minijinja 2.24.0 is not in cargo's registry; Cargo.lock has changed")
    texts = {
        "prose.txt": prose(gutenberg / "chesterton-brown.txt"),
        "python.txt": "\n".join((rich / name).read_text(encoding="utf-8") for name in PYTHON),
        "rust.txt": "\n".join((crate / name).read_text(encoding="utf-8") for name in RUST),
    }
    for name, text in texts.items():
        data = text.encode()
        digest = hashlib.sha256(data).hexdigest()
        if digest != SHA256[name]:
            sys.exit(f"{name}: sha256 is {digest}, not {SHA256[name]}")
        (out / name).write_bytes(data)
        print(f"{name}: {len(data)} bytes", file=sys.stderr)


main()
