#!/usr/bin/env python3
"""The yardstick: a VQ-VAE's first stage in plain eager PyTorch 2.11, 32x32 RGB, hidden 128, K 512, D 64, EMA codebook.

    vqvae.py train-step [--batch 32]     images/s over {fp32, bf16 autocast} x {contiguous, channels_last}
    vqvae.py lookup [--batch 32]         images/s of cdist and argmin alone, 64 vectors an image

Written from van den Oord et al., "Neural Discrete Representation Learning", 2017, in the widths of sonnet's example.
"""

import argparse
import contextlib
import json
import time

import torch
from torch import nn
from torch.nn import functional

HIDDEN, RESIDUAL, BLOCKS, CODES, DIM = 128, 32, 2, 512, 64


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(HIDDEN, RESIDUAL, 3, padding=1)
        self.narrow = nn.Conv2d(RESIDUAL, HIDDEN, 1)

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        return xs + self.narrow(functional.relu(self.wide(functional.relu(xs))))


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, HIDDEN // 2, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(HIDDEN // 2, HIDDEN, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1),
            *(Residual() for _ in range(BLOCKS)),
            nn.ReLU(),
            nn.Conv2d(HIDDEN, DIM, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(DIM, HIDDEN, 3, padding=1),
            *(Residual() for _ in range(BLOCKS)),
            nn.ReLU(),
            nn.ConvTranspose2d(HIDDEN, HIDDEN // 2, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(HIDDEN // 2, 3, 4, 2, 1),
        )
        self.register_buffer("codes", torch.randn(CODES, DIM))
        self.register_buffer("counts", torch.ones(CODES))
        self.register_buffer("sums", self.codes.clone())

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        zs = self.encoder(xs).float()
        rows = zs.permute(0, 2, 3, 1).reshape(-1, DIM)
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            index = torch.cdist(rows, self.codes).argmin(1)
        es = self.codes[index].view(zs.shape[0], zs.shape[2], zs.shape[3], DIM).permute(0, 3, 1, 2)
        commitment = 0.25 * functional.mse_loss(zs, es)
        out = self.decoder(zs + (es - zs).detach()).float()
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            hot = functional.one_hot(index, CODES).float()
            self.counts.lerp_(hot.sum(0), 0.01)
            self.sums.lerp_(hot.T @ rows, 0.01)
            total = self.counts.sum()
            smooth = (self.counts + 1e-5) / (total + CODES * 1e-5) * total
            self.codes.copy_(self.sums / smooth[:, None])
        return functional.mse_loss(out, xs) / 0.06 + commitment


def best(repeats: int, work) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def train_step(args: argparse.Namespace) -> dict[str, float]:
    rates = {}
    for layout in ("contiguous", "channels_last"):
        for precision in ("fp32", "bf16"):
            torch.manual_seed(0)
            model = Autoencoder()
            xs = torch.rand(args.batch, 3, 32, 32) - 0.5
            if layout == "channels_last":
                model = model.to(memory_format=torch.channels_last)
                xs = xs.to(memory_format=torch.channels_last)
            adam = torch.optim.Adam(model.parameters(), 3e-4, fused=True)

            def steps() -> None:
                for _ in range(4):
                    adam.zero_grad(set_to_none=True)
                    bf16 = torch.autocast("cpu", torch.bfloat16)
                    with bf16 if precision == "bf16" else contextlib.nullcontext():
                        loss = model(xs)
                    loss.backward()
                    adam.step()

            rates[f"{precision} {layout}"] = 4 * args.batch / best(args.repeats, steps)
    return rates


def lookup(args: argparse.Namespace) -> dict[str, float]:
    torch.manual_seed(0)
    rows, codes = torch.randn(64 * args.batch, DIM), torch.randn(CODES, DIM)

    def lookups() -> None:
        for _ in range(20):
            torch.cdist(rows, codes).argmin(1)

    return {"fp32 cdist": 20 * args.batch / best(args.repeats, lookups)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("train-step", "lookup"))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rates = {"train-step": train_step, "lookup": lookup}[args.mode](args)
    line = {"mode": args.mode, "model": "vqvae", "batch": args.batch, "threads": args.threads, "images_per_s": rates}
    print(json.dumps(line))


main()
