#!/usr/bin/env python3
"""The yardstick: WaveNet in plain eager PyTorch 2.11, `Conv1d` modules, in the shape of the preset `speech`.

    wavenet.py train-step [--batch 2]      audio samples/s over {fp32, bf16 autocast}
    wavenet.py sample [--batch 1]          samples/s of cached generation (queues, linear layers) and of plain
                                           recomputation of the receptive field, the head at its end only

Written from van den Oord et al., "WaveNet: A Generative Model for Raw Audio", 2016, and for the cache from Le Paine et
al., "Fast Wavenet Generation Algorithm", 2016. Letters: B clips, C channels, T samples.
"""

import argparse
import contextlib
import json
import math
import time

import torch
from torch import nn
from torch.nn import functional

LEVELS = 256


class Layer(nn.Module):
    """z = tanh(f) sigmoid(g) of a dilated convolution; h + residual(z), skip(z)."""

    def __init__(self, residual: int, skip: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.dilated = nn.Conv1d(residual, 2 * residual, 2, dilation=dilation)
        self.residual = nn.Conv1d(residual, residual, 1)
        self.skip = nn.Conv1d(residual, skip, 1)

    def forward(self, hs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, gates = self.dilated(functional.pad(hs, (self.dilation, 0))).chunk(2, dim=1)
        zs = torch.tanh(values) * torch.sigmoid(gates)
        return hs + self.residual(zs), self.skip(zs)


class WaveNet(nn.Module):
    """Levels [B, T] to logits [B, 256, T] of each sample from those before it, or [B, 256, 1] of the last one."""

    def __init__(self, stacks: int, residual: int, skip: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(LEVELS, residual)
        self.layers = nn.ModuleList(Layer(residual, skip, 2**i) for _ in range(stacks) for i in range(10))
        self.head = nn.Conv1d(skip, skip, 1)
        self.output = nn.Conv1d(skip, LEVELS, 1)

    def forward(self, levels: torch.Tensor, last: bool = False) -> torch.Tensor:
        hs = functional.pad(self.embedding(levels[:, :-1]).transpose(1, 2), (1, 0))
        total = None
        for layer in self.layers:
            hs, skip = layer(hs)
            total = skip if total is None else total + skip
        if last:
            total = total[:, :, -1:]
        return self.output(functional.relu(self.head(functional.relu(total))))

    def receptive_field(self) -> int:
        return sum(layer.dilation for layer in self.layers) + 1


class Cached:
    """One sample at a time: what each layer read waits in a queue, convolutions are linear layers."""

    def __init__(self, model: WaveNet, batch: int) -> None:
        self.model, self.t = model, 0
        residual = model.embedding.embedding_dim
        self.queues = [torch.zeros(layer.dilation, batch, residual) for layer in model.layers]
        self.weights = [
            (torch.cat((layer.dilated.weight[:, :, 0], layer.dilated.weight[:, :, 1]), 1).contiguous(), layer.dilated.bias,
             torch.cat((layer.residual.weight, layer.skip.weight), 0)[:, :, 0].contiguous(),
             torch.cat((layer.residual.bias, layer.skip.bias)))
            for layer in model.layers
        ]
        self.heads = [(conv.weight[:, :, 0].contiguous(), conv.bias) for conv in (model.head, model.output)]

    def step(self, last: torch.Tensor) -> torch.Tensor:
        hs, total = self.model.embedding(last), 0.0
        residual = hs.shape[1]
        for queue, (dilated, dilated_bias, both, both_bias) in zip(self.queues, self.weights, strict=True):
            slot = queue[self.t % len(queue)]
            values, gates = functional.linear(torch.cat((slot, hs), 1), dilated, dilated_bias).chunk(2, dim=1)
            slot.copy_(hs)
            ys = functional.linear(torch.tanh(values) * torch.sigmoid(gates), both, both_bias)
            hs = hs + ys[:, :residual]
            total = total + ys[:, residual:]
        self.t += 1
        (head, head_bias), (output, output_bias) = self.heads
        ys = functional.linear(functional.relu(total), head, head_bias)
        return functional.linear(functional.relu(ys), output, output_bias)


def new_model(args: argparse.Namespace) -> WaveNet:
    torch.manual_seed(args.seed)
    return WaveNet(args.stacks, args.residual, args.skip)


def train_step(args: argparse.Namespace) -> None:
    """Audio samples/s of forward, backward and fused Adam, the best of --repeats rounds, variants taking turns."""
    levels = torch.randint(LEVELS, (args.batch, args.samples), generator=torch.Generator().manual_seed(args.seed))
    variants = {}
    for precision in ("fp32", "bf16"):
        model = new_model(args)
        variants[precision] = (model, torch.optim.Adam(model.parameters(), lr=1e-3, fused=True))
    seconds = dict.fromkeys(variants, math.inf)
    for turn in range(args.repeats + 1):  # the first warms up
        for precision, (model, adam) in variants.items():
            start = time.perf_counter()
            adam.zero_grad(set_to_none=True)
            scope = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
            with scope:
                logits = model(levels)
            functional.cross_entropy(logits.float(), levels).backward()
            adam.step()
            if turn > 0:
                seconds[precision] = min(seconds[precision], time.perf_counter() - start)
    report(args, mode="train-step", samples_per_s={name: round(args.batch * args.samples / it, 1) for name, it in seconds.items()})


@torch.inference_mode()
def sample(args: argparse.Namespace) -> None:
    """Samples/s of all clips together: cached, and plain from the last receptive field."""
    model = new_model(args).eval()
    cached, last, best = Cached(model, args.batch), torch.full((args.batch,), LEVELS // 2), math.inf
    for turn in range(args.repeats + 1):
        start = time.perf_counter()
        for _ in range(args.steps):
            last = torch.multinomial(cached.step(last).softmax(1), 1)[:, 0]
        if turn > 0:
            best = min(best, (time.perf_counter() - start) / args.steps)
    levels, plain = torch.randint(LEVELS, (args.batch, model.receptive_field())), math.inf
    for turn in range(3):
        start = time.perf_counter()
        torch.multinomial(model(levels, last=True)[:, :, 0].softmax(1), 1)
        if turn > 0:
            plain = min(plain, time.perf_counter() - start)
    report(args, mode="sample", samples_per_s={"cached": round(args.batch / best, 1), "plain": round(args.batch / plain, 3)})


def report(args: argparse.Namespace, **fields: object) -> None:
    shape = {"stacks": args.stacks, "residual": args.residual, "skip": args.skip}
    fields |= shape | {"model": "speech", "batch": args.batch, "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps(fields), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("train-step", "sample"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--samples", type=int, default=8192, help="train-step: samples of a clip")
    parser.add_argument("--stacks", type=int, default=3, help="stacks of ten layers, dilations 1 to 512")
    parser.add_argument("--residual", type=int, default=64)
    parser.add_argument("--skip", type=int, default=256)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=400, help="sample: samples in a round")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    {"train-step": train_step, "sample": sample}[args.mode](args)


main()
