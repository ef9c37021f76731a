#!/usr/bin/env python3
"""The yardstick: llama.cpp through `llama-cpp-python`, built by pip as it builds by default.

    llama.py MODEL.gguf [--threads 1] [--prompt 221] [--tokens 128] [--repeats 3] [--text README.md]

Reads the first tokens of a text at once, then writes greedily; one JSON object, of several repetitions the median.
"""

import argparse
import ctypes
import json
import statistics
import time

import llama_cpp


def greatest(llama: llama_cpp.Llama, vocabulary: int) -> int:
    """The likeliest token after the last one that was read."""
    logits = llama_cpp.llama_get_logits_ith(llama._ctx.ctx, -1)
    logits = (ctypes.c_float * vocabulary).from_address(ctypes.addressof(logits.contents))
    try:
        import numpy as np

        return int(np.frombuffer(logits, dtype=np.float32).argmax())
    except ImportError:
        return max(range(vocabulary), key=logits.__getitem__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prompt", type=int, default=221)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--text", default="README.md")
    args = parser.parse_args()

    start = time.perf_counter()
    context = args.prompt + args.tokens + 1
    threads = {"n_threads": args.threads, "n_threads_batch": args.threads}
    llama = llama_cpp.Llama(args.model, n_ctx=context, verbose=False, **threads)
    opened = time.perf_counter() - start
    with open(args.text, encoding="utf-8") as file:
        prompt = llama.tokenize(file.read().encode(), add_bos=False, special=False)[: args.prompt]
    assert len(prompt) == args.prompt, f"{args.text} is too short"

    reading, writing, text = [], [], []
    for _ in range(args.repeats):
        llama.reset()
        start = time.perf_counter()
        llama.eval(prompt)
        reading.append(len(prompt) / (time.perf_counter() - start))
        text = []
        start = time.perf_counter()
        for _ in range(args.tokens):
            text.append(greatest(llama, llama.n_vocab()))
            llama.eval(text[-1:])
        writing.append(args.tokens / (time.perf_counter() - start))
    print(
        json.dumps(
            {
                "bench": "decode",
                "engine": "llama.cpp",
                "weights": "delivered",
                "threads": args.threads,
                "decode_tokens_per_second": statistics.median(writing),
                "prefill_tokens_per_second": statistics.median(reading),
                "prompt": len(prompt),
                "open_seconds": opened,
                "text": text,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
