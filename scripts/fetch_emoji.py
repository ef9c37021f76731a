#!/usr/bin/env python3
"""Sorts emoji into a folder a category: fetch_emoji.py PACKAGE FOLDER.

One picture of 64 x 64 an emoji, in its usual skin tone; tones themselves ("Component") are left out.
"""

import json
import pathlib
import re
import shutil
import sys


def main() -> None:
    package, folder = map(pathlib.Path, sys.argv[1:])
    emoji = json.loads((package / "emoji.json").read_text())
    count = 0
    for entry in emoji:
        category = re.sub("[^a-z]+", "-", entry["category"].lower())
        if not entry["has_img_twitter"] or category == "component":
            continue
        image = entry["image"]
        assert re.fullmatch(r"[0-9a-f-]+\.png", image), image
        (folder / category).mkdir(exist_ok=True)
        shutil.copyfile(package / "img/twitter/64" / image, folder / category / image)
        count += 1
    print(f"{count} emoji", file=sys.stderr)


main()
