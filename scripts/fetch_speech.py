#!/usr/bin/env python3
"""Lays unpacked Debian packages of Asterisk's prompts as clips: fetch_speech.py SHARE OUT.

SHARE is the packages' usr/share. Every prompt becomes OUT/SPEAKER/NAME.wav, and NAME.txt where the package says its words;
tones, monkeys and silence are left out.
"""

import gzip
import pathlib
import re
import shutil
import sys

# folder below asterisk/sounds, language, speaker
VOICES = [
    ("en_US_f_Allison", "en", "en-allison"),
    ("es_MX_f_Allison", "es", "es-allison"),
    ("fr_CA_f_June", "fr", "fr-june"),
    ("it_IT_m_Carlo", "it", "it-carlo"),
    ("ru_RU_f_IvrvoiceRU", "ru", "ru-ivrvoice"),
]

NO_SPEECH = {"ascending-2tone", "beep", "beeperr", "confbridge-join", "confbridge-leave", "descending-2tone", "tt-monkeys"}


def spoken(text: str) -> str:
    """A transcript without notes in brackets, unless it is nothing else."""
    words = re.sub(r"\[[^]]*\]|\([^)]*\)|<[^>]*>", " ", text).split() or re.sub(r"[][()<>]", " ", text).split()
    return " ".join(words)


def transcripts(path: pathlib.Path) -> dict[str, str]:
    """Lines `name: words`; a line without a name goes on with the one before."""
    texts: dict[str, str] = {}
    name = None
    for line in gzip.decompress(path.read_bytes()).decode("utf-8").splitlines():
        if line.startswith(";"):
            continue
        key, colon, words = line.partition(":")
        if colon and key and " " not in key:
            name = key
            texts[name] = words
        elif name and line.strip():
            texts[name] += " " + line
        else:
            name = None
    return {name: spoken(text) for name, text in texts.items()}


def main() -> None:
    share, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    for folder, language, speaker in VOICES:
        doc = share / f"doc/asterisk-core-sounds-{language}"
        texts = transcripts(doc / f"core-sounds-{language}.txt.gz")
        root = share / "asterisk/sounds" / folder
        laid, said = 0, 0
        for path in sorted(root.rglob("*.wav")):
            name = path.relative_to(root).with_suffix("").as_posix()
            if name in NO_SPEECH or name.startswith("silence/"):
                continue
            target = out / speaker / f"{name}.wav"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            laid += 1
            if text := texts.get(name):
                target.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
                said += 1
        print(f"{speaker}: {laid} clips, {said} with transcripts", file=sys.stderr)


main()
