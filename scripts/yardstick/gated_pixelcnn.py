#!/usr/bin/env python3
"""The yardstick: the Gated PixelCNN of 852,160 parameters in plain eager PyTorch 2.11, full masked convolutions.

    gated_pixelcnn.py train-step [--batch 16]     images/s over {fp32, bf16 autocast} x {contiguous, channels_last}
    gated_pixelcnn.py sample [--batch 16]         images/s of plain sampling, a full pass for each pixel, in every variant
    gated_pixelcnn.py curve --steps N             JSON lines: bits per dimension on MNIST's validation images

Written from van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", 2016, in the configuration of
the UvA deep learning tutorials (64 channels, 7 gated layers, dilations 1 2 1 4 1 2 1, ELU, 256 levels).
Letters: B images, C channels, H rows, W columns, L levels.
"""

import argparse
import contextlib
import json
import math
import pathlib
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from chacha import order

SIDE, LEVELS, PARAMETERS = 28, 256, 852_160


class MaskedConv(nn.Conv2d):
    """A convolution whose full kernel is multiplied by a mask on every pass."""

    def __init__(self, c_in: int, c_out: int, kernel: tuple[int, int], dilation: int, live: list[list[int]]) -> None:
        padding = tuple(dilation * (k - 1) // 2 for k in kernel)
        super().__init__(c_in, c_out, kernel, padding=padding, dilation=dilation)
        self.register_buffer("mask", torch.tensor(live, dtype=torch.float32)[None, None])

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        ws = self.weight * self.mask
        return functional.conv2d(xs, ws, self.bias, 1, self.padding, self.dilation)


def vertical(c_in: int, c_out: int, dilation: int = 1, first: bool = False) -> MaskedConv:
    """Sees the rows above, and its own unless it is the first."""
    return MaskedConv(c_in, c_out, (3, 3), dilation, [[1, 1, 1], [int(not first)] * 3, [0, 0, 0]])


def horizontal(c_in: int, c_out: int, dilation: int = 1, first: bool = False) -> MaskedConv:
    """Sees what lies to the left in its row, and its own place unless it is the first."""
    return MaskedConv(c_in, c_out, (1, 3), dilation, [[1, int(not first), 0]])


def gate(xs: torch.Tensor) -> torch.Tensor:
    values, gates = xs.chunk(2, dim=1)
    return torch.tanh(values) * torch.sigmoid(gates)


class GatedLayer(nn.Module):
    """Both stacks, the vertical one feeding the horizontal one before its gate; a residual on the horizontal one."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.vertical = vertical(channels, 2 * channels, dilation)
        self.horizontal = horizontal(channels, 2 * channels, dilation)
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, vs: torch.Tensor, hs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.vertical(vs)
        mixed = self.horizontal(hs) + self.link(features)
        return gate(features), hs + self.out(gate(mixed))


class GatedPixelCnn(nn.Module):
    """Levels [B, 1, H, W] to logits [B, L, H, W]."""

    def __init__(self, channels: int = 64, dilations: tuple[int, ...] = (1, 2, 1, 4, 1, 2, 1)) -> None:
        super().__init__()
        self.vertical = vertical(1, channels, first=True)
        self.horizontal = horizontal(1, channels, first=True)
        self.layers = nn.ModuleList(GatedLayer(channels, dilation) for dilation in dilations)
        self.head = nn.Conv2d(channels, LEVELS, 1)

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        xs = levels.float() / (LEVELS - 1) * 2 - 1
        vs, hs = self.vertical(xs), self.horizontal(xs)
        for layer in self.layers:
            vs, hs = layer(vs, hs)
        return self.head(functional.elu(hs))

    def nats(self, levels: torch.Tensor) -> torch.Tensor:
        """Mean negative log-likelihood, nats per pixel."""
        return functional.cross_entropy(self(levels).float(), levels[:, 0])


def new_model(args: argparse.Namespace) -> GatedPixelCnn:
    torch.manual_seed(args.seed)
    model = GatedPixelCnn().to(args.device)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == PARAMETERS, f"{count} parameters, not {PARAMETERS}"
    return model


def autocast(args: argparse.Namespace, bf16: bool) -> contextlib.AbstractContextManager:
    return torch.autocast(args.device, torch.bfloat16) if bf16 else contextlib.nullcontext()


def wait(args: argparse.Namespace) -> None:
    if args.device == "cuda":
        torch.cuda.synchronize()


def step(model: GatedPixelCnn, adam: torch.optim.Optimizer, levels: torch.Tensor, scope: object) -> torch.Tensor:
    """Forward, backward and Adam's update; returns nats per pixel."""
    adam.zero_grad(set_to_none=True)
    with scope:
        nats = model.nats(levels)
    nats.backward()
    adam.step()
    return nats


def random_images(args: argparse.Namespace) -> torch.Tensor:
    generator = torch.Generator().manual_seed(args.seed)
    return torch.randint(LEVELS, (args.batch, 1, SIDE, SIDE), generator=generator).to(args.device)


def train_step(args: argparse.Namespace) -> None:
    """Images/s of a training step, the best of --repeats rounds of each variant, the variants taking turns."""
    levels = random_images(args)
    variants = {}
    for precision in ("fp32", "bf16"):
        for layout in ("contiguous", "channels_last"):
            layout_of = torch.channels_last if layout == "channels_last" else torch.contiguous_format
            model = new_model(args).to(memory_format=layout_of)
            adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
            variants[f"{precision}_{layout}"] = (model, adam, levels.to(memory_format=layout_of), precision == "bf16")
    seconds = dict.fromkeys(variants, math.inf)
    for turn in range(args.repeats + 1):  # the first turn warms up
        for name, (model, adam, xs, bf16) in variants.items():
            wait(args)
            start = time.perf_counter()
            for _ in range(args.steps or 3):
                step(model, adam, xs, autocast(args, bf16))
            wait(args)
            if turn > 0:
                seconds[name] = min(seconds[name], (time.perf_counter() - start) / (args.steps or 3))
    rates = {name: round(args.batch / value, 3) for name, value in seconds.items()}
    report(args, mode="train-step", images_per_s=rates, best=max(rates, key=rates.get), best_images_per_s=max(rates.values()))


@torch.no_grad()
def sample(args: argparse.Namespace) -> None:
    """Images/s of drawing pixel by pixel, from --pixels pixels spread evenly over the image, each the best of --repeats."""
    places = np.linspace(0, SIDE * SIDE - 1, args.pixels).round().astype(int)
    rates = {}
    for precision in ("fp32", "bf16"):
        for layout in ("contiguous", "channels_last"):
            layout_of = torch.channels_last if layout == "channels_last" else torch.contiguous_format
            model = new_model(args).eval().to(memory_format=layout_of)
            levels = random_images(args).to(memory_format=layout_of)
            seconds = 0.0
            for place in places:
                y, x = divmod(int(place), SIDE)
                best = math.inf
                for _ in range(args.repeats + 1):
                    wait(args)
                    start = time.perf_counter()
                    with autocast(args, precision == "bf16"):
                        # --crop leaves out the rows below, which nothing depends on
                        logits = model(levels[:, :, : y + 1] if args.crop else levels)[:, :, y, x].float()
                    levels[:, 0, y, x] = torch.multinomial(logits.softmax(1), 1)[:, 0]
                    wait(args)
                    best = min(best, time.perf_counter() - start)
                seconds += best
            rates[f"{precision}_{layout}"] = round(args.batch * args.pixels / seconds / (SIDE * SIDE), 5)
    report(args, mode="sample", crop=args.crop, pixels_timed=args.pixels, images_per_s=rates)


@torch.no_grad()
def bits_per_dim(model: GatedPixelCnn, images: torch.Tensor, args: argparse.Namespace) -> float:
    nats = sum(model.nats(part.to(args.device)).item() * len(part) for part in images.split(args.batch))
    return nats / len(images) / math.log(2)


def curve(args: argparse.Namespace) -> None:
    """Trains on MNIST, 8 bit; every --every steps a JSON line."""
    train, valid = (
        torch.from_numpy(np.load(args.mnist / f"{split}-levels.npy").astype(np.int64))[:, None]
        for split in ("train", "valid")
    )
    valid = valid[: args.valid_images] if args.valid_images else valid
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    model = new_model(args).to(memory_format=layout)
    adam = torch.optim.Adam(model.parameters(), lr=args.learning_rate, fused=True)
    batches_per_epoch = len(train) // args.batch
    start, spent, total = time.perf_counter(), 0.0, 0.0
    num_steps = args.steps or 1000
    for number in range(num_steps + 1):
        if number % args.every == 0:
            paused = time.perf_counter()
            valid_bits = round(bits_per_dim(model, valid, args), 5)
            train_bits = round(total / args.every / math.log(2), 5) if number else None
            report(args, mode="curve", step=number, seconds=round(paused - start - spent, 2), train_bits_per_dim=train_bits,
                   valid_bits_per_dim=valid_bits, valid_images=len(valid))
            spent, total = spent + time.perf_counter() - paused, 0.0
        if number == num_steps:
            break
        epoch, batch = divmod(number, batches_per_epoch)
        if batch == 0:
            permutation = order(args.seed, epoch, len(train))
            adam.param_groups[0]["lr"] = args.learning_rate * args.decay**epoch
        chosen = permutation[batch * args.batch : (batch + 1) * args.batch]
        xs = train[chosen].to(args.device, memory_format=layout)
        total += step(model, adam, xs, autocast(args, args.bf16)).item()


def report(args: argparse.Namespace, **fields: object) -> None:
    fields |= {"batch": args.batch, "threads": torch.get_num_threads(), "device": args.device, "seed": args.seed}
    print(json.dumps(fields | {"torch": torch.__version__}), flush=True)


def main() -> None:
    mnist = pathlib.Path(__file__).parents[2] / "datasets/mnist/data"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("train-step", "sample", "curve"))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seed", type=int, default=0, help="of weights, and of the batches' order as crate pixelcnn has it")
    parser.add_argument("--steps", type=int, default=0, help="curve: steps in all (1000); train-step: steps in a round (3)")
    parser.add_argument("--repeats", type=int, default=5, help="train-step, sample: rounds that are timed")
    parser.add_argument("--pixels", type=int, default=4, help="sample: pixels that are timed")
    parser.add_argument("--crop", action="store_true", help="sample: leave out the rows below the pixel")
    parser.add_argument("--every", type=int, default=100, help="curve: steps between two validations")
    parser.add_argument("--valid-images", type=int, default=0, help="curve: only the first of them; 0 takes all")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--decay", type=float, default=0.99, help="curve: the learning rate's factor after each epoch")
    parser.add_argument("--bf16", action="store_true", help="curve: autocast to bf16")
    parser.add_argument("--channels-last", action="store_true", help="curve: memory by pixel, not by channel")
    parser.add_argument("--mnist", type=pathlib.Path, default=mnist, help="folder that scripts/fetch mnist laid")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    {"train-step": train_step, "sample": sample, "curve": curve}[args.mode](args)


main()
