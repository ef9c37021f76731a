#!/usr/bin/env python3
"""Writes LLaMA's tokenizer.json: fetch_tokenizers.py LLAMA_TOKENIZER_JS OUT.

The script of npm's llama-tokenizer-js holds the vocabulary (base64 of lines) and the merges (base64 of pairs of 16-bit token
numbers, the first merge first), made from the tokenizer.json that was distributed with LLaMA; this lays them out as one again.
"""

import base64
import json
import pathlib
import re
import struct
import sys


def packed(script: str, name: str) -> bytes:
    return base64.b64decode(re.search(rf'{name}\s*=\s*"([A-Za-z0-9+/=]+)"', script).group(1))


def main() -> None:
    script = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
    tokens = packed(script, "llama_vocab_base64").decode("utf-8").split("\n")
    merges = packed(script, "llama_merges_binary")
    pairs = list(struct.iter_unpack("<HH", merges))
    added = [
        {"id": i, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for i, name in enumerate(["<unk>", "<s>", "</s>"])
    ]
    space = "\u2581"
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": space}, {"type": "Replace", "pattern": {"String": " "}, "content": space}]},
        "pre_tokenizer": None, "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": space}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": True, "byte_fallback": True, "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [[tokens[a], tokens[b]] for a, b in pairs],
        },
    }
    pathlib.Path(sys.argv[2]).write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    print(f"llama: {len(tokens)} tokens, {len(pairs)} merges", file=sys.stderr)


main()
