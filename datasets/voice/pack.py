#!/usr/bin/env python3
"""Packs the voices: pack.py SPEECH, a folder laid by scripts/fetch speech, writes voice.bin.gz beside this script.

Unpacked, the file is lines `speaker TAB name TAB samples TAB text`, an empty line, then of all clips' samples in turn the
differences to the one before, 16 bits with wrapping: first their low bytes, then their high bytes.
"""

import array
import gzip
import hashlib
import pathlib
import sys
import wave

SPEAKERS = ["en-allison", "it-carlo"]
# Sentences of one to two seconds; by the sha256 of these names two validate and two test.
NAMES = [
    "agent-loginok", "call-forwarding", "call-waiting", "conf-errormenu", "conf-full", "conf-hasjoin", "conf-thereare",
    "do-not-disturb", "is-set-to", "one-moment-please", "please-try-again", "speed-dial", "telephone-number",
    "to-rerecord-it", "vm-deleted", "vm-incorrect", "vm-nomore", "vm-savedto",
]


def samples(path: pathlib.Path) -> array.array:
    with wave.open(str(path)) as sound:
        if (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) != (1, 2, 8000):
            sys.exit(f"{path}: not 16 bits of one channel at 8 kHz")
        numbers = array.array("h", sound.readframes(sound.getnframes()))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def main() -> None:
    speech = pathlib.Path(sys.argv[1])
    lines, low, high, last = [], bytearray(), bytearray(), 0
    for speaker in SPEAKERS:
        for name in NAMES:
            clip = samples(speech / speaker / f"{name}.wav")
            text = (speech / speaker / f"{name}.txt").read_text(encoding="utf-8").strip()
            lines.append(f"{speaker}\t{name}\t{len(clip)}\t{text}\n")
            for number in clip:
                difference = (number - last) % 65536
                low.append(difference % 256)
                high.append(difference // 256)
                last = number
    out = pathlib.Path(__file__).with_name("voice.bin.gz")
    packed = "".join(lines).encode() + b"\n" + low + high
    out.write_bytes(gzip.compress(packed, 9, mtime=0))
    seconds = len(low) / 8000
    print(f"{out.name}: {len(lines)} clips, {seconds:.1f} s, {out.stat().st_size} bytes,"
          f" sha256 {hashlib.sha256(out.read_bytes()).hexdigest()}")


main()
