#!/usr/bin/env python3
"""Lays English books as JSONL: fetch_text.py GUTENBERG JANEAUSTENR OUT.

GUTENBERG is a folder of plain texts, JANEAUSTENR the folder of an R package's lazily loaded data. Each book becomes documents
of 8 to 16 kB, cut between paragraphs: lines {"book": ..., "text": ...} of OUT/books.jsonl. Paragraphs of prose become one line
each; verse keeps its lines.
"""

import json
import pathlib
import re
import struct
import sys
import zlib

# Chesterton is held out (fetch_text_heldout.py); the last two are not in the public domain everywhere
LEFT_OUT = {"chesterton-ball", "chesterton-brown", "chesterton-thursday", "bryant-stories", "burgess-busterbrown"}
VERSE = {"blake-poems", "milton-paradise", "shakespeare-caesar", "shakespeare-hamlet", "shakespeare-macbeth", "whitman-leaves"}
SIZE = 8192
AUSTEN = ["prideprejudice", "mansfieldpark", "northangerabbey"]


class Serialised:
    """As much of R's serialisation as a vector of strings needs (R Internals, section 1.8)."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self) -> int:
        self.at += 4
        return struct.unpack(">i", self.data[self.at - 4:self.at])[0]

    def strings(self) -> list[str]:
        if self.data[:2] != b"X\n":
            sys.exit("janeaustenr: not R's binary form")
        self.at = 2
        if self.number() == 3:  # version, writer, oldest reader, native encoding
            self.at += 8
            length = self.number()
            self.at += length
        else:
            self.at += 8
        if self.number() & 0xFF != 16:
            sys.exit("janeaustenr: not a vector of strings")
        lines = []
        for _ in range(self.number()):
            if self.number() & 0xFF != 9:
                sys.exit("janeaustenr: not a string")
            length = self.number()
            lines.append(self.data[self.at:self.at + length].decode("utf-8"))
            self.at += length
        return lines


def austen(folder: pathlib.Path) -> dict[str, list[str]]:
    """The vectors of strings in Rdata.rdb that are the novels wanted, known by their first words."""
    data, books, at = (folder / "Rdata.rdb").read_bytes(), {}, 0
    while at + 4 < len(data):
        (length,) = struct.unpack(">I", data[at:at + 4])  # of what it unpacks to
        unpack = zlib.decompressobj()
        content = unpack.decompress(data[at + 4:])
        if len(content) != length:
            sys.exit("janeaustenr: a record has another length than it says")
        at = len(data) - len(unpack.unused_data)
        lines = Serialised(content).strings()
        title = re.sub(r"[^a-z]", "", next(line for line in lines if line).lower())
        for name in AUSTEN:
            if name in title.replace("and", ""):
                books[f"austen-{name}"] = lines
    if len(books) != len(AUSTEN):
        sys.exit(f"janeaustenr: found {sorted(books)} only")
    return books


def paragraphs(text: str, verse: bool) -> list[str]:
    parts = [part.strip("\n") for part in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n").expandtabs())]
    return [part if verse else " ".join(part.split()) for part in parts if part.strip()]


def main() -> None:
    gutenberg, janeaustenr, out = (pathlib.Path(it) for it in sys.argv[1:])
    books = {path.stem: path.read_bytes() for path in sorted(gutenberg.glob("*.txt"))}
    texts = {name: data.decode("utf-8", "strict") if is_utf8(data) else data.decode("latin-1") for name, data in books.items()}
    texts |= {name: "\n".join(lines) for name, lines in austen(janeaustenr).items()}
    count = 0
    with (out / "books.jsonl").open("w", encoding="utf-8") as file:
        for name, text in sorted(texts.items()):
            if name in LEFT_OUT:
                continue
            document: list[str] = []
            for paragraph in [*paragraphs(text, name in VERSE), None]:
                if paragraph is not None:
                    document.append(paragraph)
                if document and (paragraph is None or sum(map(len, document)) >= SIZE):
                    file.write(json.dumps({"book": name, "text": "\n\n".join(document) + "\n"}, ensure_ascii=False) + "\n")
                    document, count = [], count + 1
    print(f"{len(texts) - len(LEFT_OUT)} books, {count} documents", file=sys.stderr)


def is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
        return True
    except UnicodeDecodeError:
        return False


main()
