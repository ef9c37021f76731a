#!/usr/bin/env python3
"""The yardstick: a decoder in plain eager PyTorch 2.11, trained and read one token at a time.

    gpt.py train-step [--kind gpt2|llama]     tokens/s of a training step over {fp32, bf16 autocast}
    gpt.py forward    [--kind gpt2|llama]     tokens/s of a pass without gradients over the same

Fused AdamW, `scaled_dot_product_attention`, queries, keys and values in one product. Written from Radford et al.,
"Language Models are Unsupervised Multitask Learners", 2019, and Touvron et al., "LLaMA", 2023.
Letters: B texts, T tokens, D width, H heads, E width of a head.
"""

import argparse
import contextlib
import json
import math
import time

import torch
from torch import nn
from torch.nn import functional


class RmsNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(xs, (xs.shape[-1],), self.weight, 1e-5)


def rotate(xs: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = xs.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


class Layer(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__()
        self.llama, self.heads, width = args.kind == "llama", args.heads, args.width
        norm = RmsNorm if self.llama else nn.LayerNorm
        self.norms = nn.ModuleList(norm(width) for _ in range(2))
        self.sizes = [width] + 2 * [width // args.heads * args.kv_heads]
        self.qkv = nn.Linear(width, sum(self.sizes), bias=not self.llama)
        self.output = nn.Linear(width, width, bias=not self.llama)
        inner = -(-8 * width // 3 // 32) * 32 if self.llama else 4 * width
        self.up = nn.Linear(width, 2 * inner if self.llama else inner, bias=not self.llama)
        self.down = nn.Linear(inner, width, bias=not self.llama)

    def forward(self, xs: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        b, t, d = xs.shape
        parts = self.qkv(self.norms[0](xs)).split(self.sizes, dim=-1)
        q, k, v = (ys.view(b, t, -1, d // self.heads).transpose(1, 2) for ys in parts)  # [B, H, T, E]
        if self.llama:
            q, k = rotate(q, *angles).to(v.dtype), rotate(k, *angles).to(v.dtype)
        shared = k.shape[1] < q.shape[1]
        ys = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared)
        xs = xs + self.output(ys.transpose(1, 2).reshape(b, t, d))
        ys = self.up(self.norms[1](xs))
        if self.llama:
            gates, values = ys.chunk(2, dim=-1)
            ys = functional.silu(gates) * values
        else:
            ys = functional.gelu(ys, approximate="tanh")
        return xs + self.down(ys)


class Decoder(nn.Module):
    """Tokens [B, T] to logits [B, T, V]; the head is the token embedding."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__()
        self.llama = args.kind == "llama"
        self.embedding = nn.Embedding(args.vocabulary, args.width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.positions = None if self.llama else nn.Parameter(0.01 * torch.randn(args.context, args.width))
        self.layers = nn.ModuleList(Layer(args) for _ in range(args.layers))
        self.norm = RmsNorm(args.width) if self.llama else nn.LayerNorm(args.width)
        half = args.width // args.heads // 2
        turns = torch.outer(torch.arange(args.context), 10_000.0 ** (-torch.arange(half) / half))
        self.register_buffer("cos", turns.cos())
        self.register_buffer("sin", turns.sin())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        t = tokens.shape[1]
        xs = self.embedding(tokens)
        if not self.llama:
            xs = xs + self.positions[:t]
        for layer in self.layers:
            xs = layer(xs, (self.cos[:t], self.sin[:t]))
        return functional.linear(self.norm(xs), self.embedding.weight)


def measure(args: argparse.Namespace) -> None:
    """Tokens/s, the best of --repeats rounds, variants taking turns; the first round warms up."""
    generator = torch.Generator().manual_seed(args.seed)
    tokens = torch.randint(args.vocabulary, (args.batch, args.context + 1), generator=generator)
    variants = {}
    for precision in ("fp32", "bf16"):
        torch.manual_seed(args.seed)
        model = Decoder(args)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
        variants[precision] = (model, optimiser)
    seconds = dict.fromkeys(variants, math.inf)
    for turn in range(args.repeats + 1):
        for precision, (model, optimiser) in variants.items():
            start = time.perf_counter()
            for _ in range(args.steps):
                scope = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
                if args.mode == "forward":
                    with torch.inference_mode(), scope:
                        model(tokens[:, :-1])
                    continue
                optimiser.zero_grad(set_to_none=True)
                with scope:
                    logits = model(tokens[:, :-1])
                functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten()).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
            if turn > 0:
                seconds[precision] = min(seconds[precision], (time.perf_counter() - start) / args.steps)
    parameters = sum(it.numel() for it in variants["fp32"][0].parameters())
    rates = {name: round(args.batch * args.context / it, 1) for name, it in seconds.items()}
    fields = {"mode": args.mode, "model": f"book-{args.kind}", "layers": args.layers, "width": args.width, "heads": args.heads}
    fields |= {"context": args.context, "vocabulary": args.vocabulary, "batch": args.batch, "parameters": parameters}
    fields |= {"tokens_per_s": rates, "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps(fields), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("train-step", "forward"))
    parser.add_argument("--kind", choices=("gpt2", "llama"), default="gpt2")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--kv-heads", type=int, default=0, help="0: 2 of llama, all of gpt2")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=257)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=2, help="steps of a round")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.kv_heads = args.kv_heads or (2 if args.kind == "llama" else args.heads)
    torch.set_num_threads(args.threads)
    measure(args)


main()
