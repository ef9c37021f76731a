"""The yardstick: Gated PixelCNN in plain eager PyTorch, as in the UvA deep-learning course (tutorial 12).

    python3 gated_pixelcnn.py train-step [--steps N]     training steps on 28x28 images, batch 16
    python3 gated_pixelcnn.py sample [--passes N]        full-pass sampling of 16 images, from a few passes

Full 3x3 and 1x3 kernels under masks (https://uvadlc-notebooks.readthedocs.io, "Autoregressive Image Modeling"):
64 channels, dilations 1 2 1 4 1 2 1, 852,160 parameters. One JSON object a line on stdout.
"""

import argparse
import contextlib
import itertools
import json
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

SIDE, LEVELS, BATCH, CHANNELS = 28, 256, 16, 64
DILATIONS = [1, 2, 1, 4, 1, 2, 1]


class MaskedConv2d(nn.Conv2d):
    """A convolution whose dead weights are set to zero before every pass, as in the tutorial."""

    def __init__(self, inputs, outputs, mask, dilation=1):
        padding = [size // 2 * dilation for size in mask.shape]
        super().__init__(inputs, outputs, mask.shape, padding=padding, dilation=dilation)
        self.register_buffer("mask", mask[None, None])

    def forward(self, xs):
        self.weight.data *= self.mask
        return super().forward(xs)


def vertical(inputs, outputs, above, dilation=1):
    mask = torch.ones(3, 3)
    mask[1 if above else 2 :] = 0
    return MaskedConv2d(inputs, outputs, mask, dilation)


def horizontal(inputs, outputs, above, dilation=1):
    mask = torch.ones(1, 3)
    mask[:, 1 if above else 2 :] = 0
    return MaskedConv2d(inputs, outputs, mask, dilation)


def gate(xs):
    a, b = xs.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


class Block(nn.Module):
    def __init__(self, channels, dilation):
        super().__init__()
        self.vertical = vertical(channels, 2 * channels, False, dilation)
        self.horizontal = horizontal(channels, 2 * channels, False, dilation)
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.output = nn.Conv2d(channels, channels, 1)

    def forward(self, v, h):
        v = self.vertical(v)
        left = self.horizontal(h) + self.link(v)
        return gate(v), h + self.output(gate(left))


class GatedPixelCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.vertical = vertical(1, CHANNELS, True)
        self.horizontal = horizontal(1, CHANNELS, True)
        self.blocks = nn.ModuleList(Block(CHANNELS, dilation) for dilation in DILATIONS)
        self.head = nn.Conv2d(CHANNELS, LEVELS, 1)

    def forward(self, levels):  # [B, 1, H, W] to [B, 256, H, W]
        xs = levels.float() / (LEVELS - 1) * 2 - 1
        v, h = self.vertical(xs), self.horizontal(xs)
        for block in self.blocks:
            v, h = block(v, h)
        return self.head(F.elu(h))


def batch(channels_last):
    levels = torch.randint(0, LEVELS, (BATCH, 1, SIDE, SIDE))
    return levels.contiguous(memory_format=torch.channels_last) if channels_last else levels


def build(channels_last):
    torch.manual_seed(0)
    model = GatedPixelCNN()
    parameters = sum(weight.numel() for weight in model.parameters())
    assert parameters == 852_160, parameters
    return model.to(memory_format=torch.channels_last) if channels_last else model


def autocast(bf16):
    return torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext()


def train_step(steps):
    """Forward, backward and fused Adam, in every variant."""
    for bf16, channels_last in itertools.product([False, True], repeat=2):
        model = build(channels_last)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        levels = batch(channels_last)
        target = levels.squeeze(1)
        times = []
        for _ in range(2 + steps):
            start = now()
            optimiser.zero_grad()
            with autocast(bf16):
                logits = model(levels)
                loss = F.cross_entropy(logits, target)
            loss.backward()
            optimiser.step()
            loss.item()
            times.append(now() - start)
        report(
            "train-step",
            medians(times[2:]),
            precision="bf16" if bf16 else "f32",
            layout="channels_last" if channels_last else "contiguous",
        )


def sample(passes):
    """Sampling by one full pass a pixel, from the median time of a few passes."""
    for bf16, channels_last in itertools.product([False, True], repeat=2):
        model = build(channels_last).eval()
        levels = torch.zeros(BATCH, 1, SIDE, SIDE, dtype=torch.int64)
        times = []
        for position in range(1 + passes):
            row, column = divmod(position, SIDE)
            start = now()
            with torch.no_grad(), autocast(bf16):
                logits = model(levels)[:, :, row, column]
                probs = F.softmax(logits.float(), dim=-1)
                levels[:, 0, row, column] = torch.multinomial(probs, 1).squeeze(-1)
            times.append(now() - start)
        report(
            "sample",
            medians(times[1:]) * SIDE * SIDE,
            precision="bf16" if bf16 else "f32",
            layout="channels_last" if channels_last else "contiguous",
        )


def now():
    """Seconds on the clock, and seconds that all threads of this process had a core."""
    return np.array([time.perf_counter(), time.process_time()])


def medians(times):
    return np.median(times, axis=0)


def report(what, seconds, **variant):
    """`seconds` of a batch, by the clock and on cores."""
    line = {"bench": what, "engine": f"pytorch {torch.__version__}", "model": "gated-mnist"}
    line |= variant | {"batch": BATCH, "threads": torch.get_num_threads()}
    line["images_per_second"] = BATCH / seconds[0]
    line["cpu_ms_per_image"] = seconds[1] * 1e3 / BATCH
    print(json.dumps(line), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=["train-step", "sample"])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.mode == "train-step":
        train_step(args.steps)
    else:
        sample(args.passes)


if __name__ == "__main__":
    main()
