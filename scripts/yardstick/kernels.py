#!/usr/bin/env python3
"""The yardstick of `cargo run --release -p core-layers --example kernels`: the same operations at the same shapes in PyTorch
2.11, eager and, where a compiler for it is at hand, under torch.compile; microseconds of a forward and a backward pass.

    kernels.py [--kernel NAME] [--device cpu|cuda] [--threads 1] [--repeats 7]
"""

import argparse
import json
import math
import time

import torch
from torch.nn import functional

BF16 = torch.bfloat16


def random(*sizes, kind=torch.float32):
    return torch.randn(*sizes).to(kind).requires_grad_()


def gate():
    xs = torch.randn(16, 128, 28, 28).to(BF16).contiguous(memory_format=torch.channels_last).requires_grad_()

    def run(xs, condition):
        a, b = (xs + condition[:, :, None, None]).chunk(2, 1)
        return torch.tanh(a) * torch.sigmoid(b)

    return run, [xs, random(16, 128, kind=BF16)]


def layer_norm():
    ws, bs = torch.ones(384), torch.zeros(384)
    return lambda xs: functional.layer_norm(xs, (384,), ws, bs, 1e-5).to(BF16), [random(12, 256, 384)]


def rms_norm():
    ws = torch.ones(384)
    return lambda xs: functional.rms_norm(xs, (384,), ws, 1e-5).to(BF16), [random(12, 256, 384)]


def swiglu():
    return lambda gate, up: functional.silu(gate) * up, [random(12, 256, 1024, kind=BF16) for _ in range(2)]


def gelu():
    return lambda xs: functional.gelu(xs, approximate="tanh"), [random(12, 256, 1536, kind=BF16)]


def attention():
    angles = torch.arange(256)[:, None] * 1e4 ** (-torch.arange(32) / 32)
    cos, sin = angles.cos(), angles.sin()

    def turn(xs):
        a, b = xs.float().chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(xs.dtype)

    def run(joint):
        heads = joint.view(12, 256, 10, 64).transpose(1, 2)
        qs, ks, vs = turn(heads[:, :6]), turn(heads[:, 6:8]), heads[:, 8:]
        ks, vs = ks.repeat_interleave(3, 1), vs.repeat_interleave(3, 1)
        return functional.scaled_dot_product_attention(qs, ks, vs, is_causal=True)

    return run, [random(12, 256, 640, kind=BF16)]


def cross_entropy():
    symbols = torch.randint(4096, (12 * 256,))
    return lambda xs: functional.cross_entropy(xs.view(-1, 4096), symbols, reduction="none"), [random(12, 256, 4096, kind=BF16)]


def mixture():
    symbols = torch.randint(256, (16, 3072))
    half = 1 / 255

    def run(logits, means, log_scales):
        at = symbols[..., None]
        centres = at * (2 * half) - 1 - means
        inverse = torch.exp(3 - log_scales)
        upper, lower = (centres + half) * inverse, (centres - half) * inverse
        first, last = at == 0, at == 255
        width = torch.log(-torch.expm1(-2 * half * inverse))
        zero = torch.zeros(())
        bins = torch.where(last, zero, functional.logsigmoid(upper)) + torch.where(first, zero, functional.logsigmoid(-lower))
        bins = bins + torch.where(first | last, zero, width)
        return torch.logsumexp(bins + functional.log_softmax(logits, -1), -1)

    return run, [random(16, 3072, 10) for _ in range(3)]


def lookup():
    codes, counts, sums = torch.randn(512, 64), torch.ones(512), torch.randn(512, 64)

    def run(xs):
        index = torch.cdist(xs, codes).argmin(1)
        hot = functional.one_hot(index, 512).float()
        counts.lerp_(hot.sum(0), 0.01)
        sums.lerp_(hot.T @ xs, 0.01)
        total = counts.sum()
        codes.copy_(sums / ((counts + 1e-5) / (total + 512 * 1e-5) * total)[:, None])
        return index

    return run, [torch.randn(2048, 64)]


KERNELS = {
    "gate": gate,
    "layer norm": layer_norm,
    "rms norm": rms_norm,
    "swiglu": swiglu,
    "gelu": gelu,
    "rope, attention": attention,
    "cross-entropy": cross_entropy,
    "logistics": mixture,
    "nearest code, EMA": lookup,
}


def step(run, inputs):
    ys = run(*inputs)
    asked = [it for it in inputs if it.requires_grad]
    if asked:
        torch.autograd.grad(ys, asked, torch.ones_like(ys))


def best(repeats, device, work):
    def seconds(count):
        start = time.perf_counter()
        for _ in range(count):
            work()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / count

    count = min(10_000, max(1, math.ceil(2e-2 / max(seconds(2), 1e-7))))
    return min(seconds(count) for _ in range(repeats))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", choices=KERNELS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_default_device(args.device)
    for name in [args.kernel] if args.kernel else KERNELS:
        torch.manual_seed(0)
        run, inputs = KERNELS[name]()
        line = {"bench": "kernel", "kernel": name, "device": args.device, "threads": args.threads}
        line["eager_us"] = round(1e6 * best(args.repeats, args.device, lambda: step(run, inputs)), 1)
        try:
            compiled = torch.compile(run)
            line["compiled_us"] = round(1e6 * best(args.repeats, args.device, lambda: step(compiled, inputs)), 1)
        except Exception as error:  # no compiler for it, or one that refuses
            line["compile"] = f"{type(error).__name__}: {error}".splitlines()[0]
        print(json.dumps(line), flush=True)


main()
