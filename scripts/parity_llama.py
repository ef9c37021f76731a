#!/usr/bin/env python3
"""Compares crate gpt with llama.cpp on one GGUF file: greedy texts, and the logits behind them.

    scripts/parity_llama.py MODEL.gguf [--tokens 64] [--threads 1] [--plain] [--chainrule target/release/chainrule]

What `gpt generate --temperature 0` writes after eight prompts is read by llama.cpp, token by token, which says at each what
it would have written itself. Printed for each prompt: that the texts are equal, or the first token that is not, with how
far apart the two candidates are for either engine. Below stands how far either is from the same weights with activations
in f32 (`gpt logits`, libtorch): the root mean square of the logits' difference, over every token that was written.

Exit 0 if the texts are equal, or differ first where one engine holds the two candidates apart by less than its own rounding, so
that its choice between them means nothing; else 1. Needs numpy and llama-cpp-python. Where a system does not let programs use a
processor's AMX, llama.cpp dies of an illegal instruction; --plain keeps it from packing weights for it.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import llama_cpp
    import numpy as np
except ImportError as error:
    sys.exit(f"parity_llama: {error}; type: {sys.executable} -m pip install numpy llama-cpp-python")

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMPTS = [
    "Once upon a time",
    "The capital of France is",
    "def fibonacci(n):",
    "Water boils at",
    "Dear Sir or Madam,",
    "1, 2, 3, 4,",
    "The three laws of thermodynamics are",
    "She opened the door and",
]


def written(args, prompt):
    """Our greedy text: its tokens, and how many the prompt has."""
    flags = ["--temperature", "0", "--max-tokens", str(args.tokens), "--threads", str(args.threads), "--json"]
    result = subprocess.run([args.chainrule, "gpt", "generate", args.model, prompt, *flags], check=True, capture_output=True)
    text = json.loads(result.stdout)
    return text["tokens"], text["num_prompt_tokens"]


def logits_of(args, texts, engine):
    """Our logits, `[B, T, V]`; what stands behind the end of the shorter texts changes nothing before it."""
    tokens = np.zeros((len(texts), max(map(len, texts))), dtype=np.int64)
    for row, text in zip(tokens, texts):
        row[: len(text)] = text
    with tempfile.TemporaryDirectory() as folder:
        ids, out = (str(pathlib.Path(folder, name)) for name in ("ids.npy", "logits.npy"))
        np.save(ids, tokens)
        flags = ["--tokens", ids, "--out", out, "--engine", engine, "--threads", str(args.threads)]
        subprocess.run([args.chainrule, "gpt", "logits", args.model, *flags], check=True, capture_output=True)
        return np.load(out)


def theirs_after(llama, prompt, text):
    """llama.cpp's logits before each token of a text, `[T, V]`: the prompt is read at once, what was written one by one."""
    llama.reset()
    rows = []
    for read in [prompt, *([token] for token in text[:-1])]:
        llama.eval(read)
        logits = llama_cpp.llama_get_logits_ith(llama._ctx.ctx, -1)
        rows.append(np.ctypeslib.as_array(logits, (llama.n_vocab(),)).copy())
    return np.stack(rows)


def opened(args):
    """The model in llama.cpp."""
    threads = {"n_threads": args.threads, "n_threads_batch": args.threads}
    if args.plain:
        params = llama_cpp.llama_model_default_params()
        params.use_extra_bufts = False
        llama_cpp.llama_cpp.llama_model_default_params = lambda: params
    return llama_cpp.Llama(args.model, n_ctx=args.tokens + 64, verbose=False, **threads)


def kl(ps, qs):
    """KL(ps || qs) of logits `[T, V]`, in nats, the mean over T."""
    logs = [xs - np.logaddexp.reduce(xs, axis=-1, keepdims=True) for xs in (ps.astype(np.float64), qs.astype(np.float64))]
    return (np.exp(logs[0]) * (logs[0] - logs[1])).sum(-1).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a .gguf with its tokenizer")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="weights as they are, not packed for AMX")
    parser.add_argument("--chainrule", default=str(ROOT / "target/release/chainrule"))
    args = parser.parse_args()

    llama = opened(args)
    prompts = [llama.tokenize(prompt.encode(), add_bos=False, special=False) for prompt in PROMPTS]
    texts = []
    for prompt, tokens in zip(PROMPTS, prompts):
        text, count = written(args, prompt)
        if count != len(tokens):
            sys.exit(f"{prompt!r}: {count} tokens here, {len(tokens)} in llama.cpp")
        texts.append(text)

    whole = [prompt + text for prompt, text in zip(prompts, texts)]
    engines = {"ours": logits_of(args, whole, "fused"), "f32": logits_of(args, whole, "torch")}
    behind = {name: [] for name in ("ours", "f32", "llama.cpp")}  # [T, V] a text: the logits behind each of its tokens
    for row, (prompt, text) in enumerate(zip(prompts, texts)):
        for name, logits in engines.items():
            behind[name].append(logits[row, len(prompt) - 1 :][: len(text)])
        behind["llama.cpp"].append(theirs_after(llama, prompt, text))

    f32 = np.concatenate(behind["f32"])
    rounding = {}
    for name in ("ours", "llama.cpp"):
        logits = np.concatenate(behind[name])
        rounding[name] = float(np.sqrt(np.square(logits - f32, dtype=np.float64).mean()))
        same = 100 * (logits.argmax(-1) == f32.argmax(-1)).mean()
        print(
            f"{name:<10} from f32 activations, {len(f32)} positions: rms {rounding[name]:.3f}, KL {kl(f32, logits):.4f} nats, "
            f"the same likeliest token at {same:.1f} %"
        )

    unexplained = 0
    for row, (prompt, text) in enumerate(zip(PROMPTS, texts)):
        ours, theirs, exact = (behind[name][row] for name in ("ours", "llama.cpp", "f32"))
        if list(ours.argmax(-1)) != text:
            sys.exit(f"{prompt!r}: generate did not write the likeliest tokens of logits")
        differing = np.flatnonzero(theirs.argmax(-1) != text)
        if not len(differing):
            print(f"{prompt!r}: equal for {len(text)} tokens")
            continue
        at = differing[0]
        a, b = text[at], int(theirs[at].argmax())
        gaps = {"ours": ours[at, a] - ours[at, b], "llama.cpp": theirs[at, b] - theirs[at, a]}
        is_explained = any(gaps[name] < rounding[name] for name in gaps)
        unexplained += not is_explained
        spelled = [llama.detokenize([token]).decode(errors="replace") for token in (a, b)]
        print(
            f"{prompt!r}: token {at + 1} is {spelled[0]!r} ({a}) here, {spelled[1]!r} ({b}) in llama.cpp; apart by {gaps['ours']:.3f} "
            f"and {gaps['llama.cpp']:.3f}, f32 says {exact[at, a] - exact[at, b]:+.3f}: "
            + ("less than a rounding" if is_explained else "NOT EXPLAINED")
        )
    sys.exit(1 if unexplained else 0)


main()
