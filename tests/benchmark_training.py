"""Seconds a training step: what is trained, cached or not, float32 and bfloat16, beside torch.

Run it on an idle machine: python tests/benchmark_training.py [--batch 8] [--rounds 5] [--cut | --cache DATA]
The same SSD300 (8,732 anchors, VGG16, 20 classes), the same batch of noise with eight boxes a picture,
SGD with momentum; `--cut`: the first generation behind a cut VGG16 and a cut InceptionV3 instead, everything
frozen, the bridging layers, and all; `--cache`: what a cached view of the photos of a VOC folder costs. All
rows take turns, one step each a round, so that a slow minute
hits all alike.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import conv2d, cross_entropy, max_pool2d, smooth_l1_loss

from ssd.anchors import encode_targets, make_anchors
from ssd.batches import Views
from ssd.datasets.read import find_classes, read_split
from ssd.features import frozen_features, split_model
from ssd.model import build_model, set_precision
from ssd.optimizers import make_optimizer
from ssd.spec import PREPROCESSING, SPECS, SSDSpec
from ssd.stages import Stage, choose_layers, freeze_all_but
from ssd.steps import compile_stage

SPEC, CLASSES = SPECS["ssd300"], 20
# What is trained, in the words of a stage.
TRAINED = {"full": "all", "bridge": "conv4_*", "fc6 to heads": "fc6+fc7+conv[6789]_*+heads", "heads": "heads"}


def main() -> None:
    """Print seconds a step and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cut", action="store_true")
    parser.add_argument("--cache", metavar="DATA")
    options = parser.parse_args()
    if options.cache:
        measure_cache(options.cache)
    else:
        (measure_cut if options.cut else measure)(options.batch, options.rounds)


def measure(batch: int, rounds: int) -> None:
    """SSD300 itself, beside torch."""
    inputs, targets = make_batch(batch)
    steps: dict[tuple, Callable] = {}
    for precision in ("float32", "bfloat16"):
        for what, words in TRAINED.items():
            steps[what, "keras", precision] = keras_step(words, precision, False, inputs, targets)
            if what != "full":
                steps[f"{what}, cached", "keras", precision] = keras_step(
                    words, precision, True, inputs, targets
                )
            if what != "fc6 to heads":
                steps[what, "torch", precision] = torch_step(what, precision, inputs, targets)
    report(take_turns(steps, rounds), batch)


def measure_cut(batch: int, rounds: int) -> None:
    """Networks joined by bridging layers: a row each with its parameters."""
    inputs, targets = make_batch(batch, SPECS["ssd300_v1"])
    steps, counts = {}, {}
    for backbone, cut in (("vgg16", "block3_pool"), ("inception_v3", "mixed2")):
        for words in ("frozen", "bridge", "all"):
            model = build_model(SPECS["ssd300_v1"], CLASSES, backbone, cut)
            trainable = set() if words == "frozen" else choose_layers(model, words, set())
            counts[backbone, words] = freeze_all_but(model, trainable)
            steps[backbone, words] = step_of(model, model, words, "bfloat16", inputs, targets)
    for key, (median, least, most) in take_turns(steps, rounds).items():
        trained, frozen = counts[key]
        print(f"{key[0]:14}{key[1]:8}{median:7.3f} s a step ({least:.3f}, {most:.3f}), ", end="")
        print(f"{trained:,} parameters trained, {frozen:,} frozen")


def measure_cache(data: str, count: int = 96) -> None:
    """Seconds to make cached views, int8, of what is frozen before each choice of trained layers."""
    samples = read_split(data, "train", find_classes(data, "train"))[:count]
    for what, words in TRAINED.items():
        if what == "full":
            continue
        model = build_model(SPEC, CLASSES)
        front, _ = split_model(model, choose_layers(model, words, set()))
        views = Views(samples, SPEC, PREPROCESSING["vgg16"])
        with tempfile.TemporaryDirectory() as folder:
            spent = [time.perf_counter()]  # quantisation and compilation, then the views of both splits
            say = lambda text, spent=spent: spent.append(time.perf_counter())  # noqa: E731
            single = Views(samples[:1], SPEC, PREPROCESSING["vgg16"])
            options = ("int8", 1, Path(folder), say, lambda items, *_: items)
            get, _ = frozen_features(front, views, single, *options)
            seconds = spent[3] - spent[2]
            size = sum(part.nbytes for part in get(0)[0]) / 2
        print(f"{what:14}{1000 * seconds / len(samples):7.1f} ms a view, {size / 1e6:.2f} MB; ", end="")
        print(f"quantising and compiling {spent[2] - spent[0]:.1f} s")


def take_turns(steps: dict[tuple, Callable], rounds: int) -> dict[tuple, tuple]:
    """Median, least and most seconds of each step; the first round is warm-up."""
    times: dict[tuple, list] = {key: [] for key in steps}
    for _ in range(rounds + 1):
        for key, step in steps.items():
            start = time.perf_counter()
            step()
            times[key].append(time.perf_counter() - start)
    return {key: (float(np.median(t[1:])), min(t[1:]), max(t[1:])) for key, t in times.items()}


def report(seconds: dict[tuple, tuple], batch: int) -> None:
    """A row each: median, least and most seconds, pictures a second, shares of the full step and of torch."""
    print(f"{'trained':24}{'by':7}{'precision':10}{'s a step (least, most)':>26}{'pictures/s':>12}", end="")
    print(f"{'of full':>9}{'of torch':>10}")
    for (what, by, precision), (median, least, most) in seconds.items():
        full = median / seconds["full", by, precision][0]
        other = seconds.get((what, "torch", precision))
        against = f"{median / other[0]:.2f}" if other and by == "keras" else ""
        row = f"{what:24}{by:7}{precision:10}{median:>10.3f} ({least:.3f}, {most:.3f})"
        print(f"{row:<67}{batch / median:>12.1f}{full:>9.2f}{against:>10}")


def make_batch(size: int, spec: SSDSpec = SPEC) -> tuple[np.ndarray, tuple]:
    """Noise as an extractor wants it, and encoded truth of eight boxes a picture."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(0, 60, (size, 300, 300, 3)).astype(np.float32)
    anchors, rows = make_anchors(spec), []
    for _ in range(size):
        corner = rng.uniform(0, 0.6, (8, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, (8, 2))], 1).astype(np.float32)
        rows.append(encode_targets(spec, anchors, boxes, rng.integers(0, CLASSES, 8)))
    classes, deltas = (np.stack(parts) for parts in zip(*rows, strict=True))
    matched = (classes > 0)[..., None].astype(np.float32)
    return inputs, (classes, np.concatenate([deltas, matched], -1))


def keras_step(words: str, precision: str, cached: bool, inputs: np.ndarray, targets: tuple) -> Callable:
    """One step of `ssd train`; `cached`: of the part behind the frozen layers alone."""
    model = build_model(SPEC, CLASSES)
    trainable = choose_layers(model, words, set())
    freeze_all_but(model, trainable)
    back = model
    if cached:
        front, back = split_model(model, trainable)
        inputs = front.predict_on_batch(inputs)
    return step_of(model, back, words, precision, inputs, targets)


def step_of(model, back, words: str, precision: str, inputs: object, targets: tuple) -> Callable:
    """A training step of `back`, compiled as `ssd train` does; only the losses where nothing is trained."""
    set_precision(model, precision)
    stage = Stage(words, 1, 1e-5, optimizer="sgd", schedule="constant", precision=precision)
    compile_stage(back, make_optimizer(stage, 10, {}), stage)
    if not isinstance(inputs, np.ndarray):
        inputs = tuple(np.asarray(x, np.float32) for x in inputs)
        inputs = inputs if len(inputs) > 1 else inputs[0]
    if words == "frozen":
        return lambda: back.test_on_batch(inputs, targets)
    return lambda: back.train_on_batch(inputs, targets)


def torch_step(what: str, precision: str, inputs: np.ndarray, targets: tuple) -> Callable:
    """The same step in torch, channels last, as fast as it goes there."""
    network = TorchSSD()
    trained = [p for name, p in network.named_parameters() if is_trained(name, what)]
    for parameter in network.parameters():
        parameter.requires_grad = any(parameter is p for p in trained)
    x = torch.from_numpy(inputs.transpose(0, 3, 1, 2).copy()).to(memory_format=torch.channels_last)
    network.to(memory_format=torch.channels_last)
    classes, boxes = (torch.from_numpy(t) for t in targets)
    optimizer = torch.optim.SGD(trained, 1e-5, momentum=0.9)
    cast = torch.autocast("cpu", torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext()

    def step() -> None:
        optimizer.zero_grad()
        with cast:
            logits, deltas = network(x)
        torch_loss(classes.long(), boxes, logits.float(), deltas.float()).backward()
        optimizer.step()

    return step


def is_trained(name: str, what: str) -> bool:
    """Whether a parameter of the torch network is trained."""
    return {"full": True, "bridge": name.startswith("conv4"), "heads": "_mbox_" in name}[what]


def torch_loss(classes: torch.Tensor, targets: torch.Tensor, logits: torch.Tensor, deltas: torch.Tensor):
    """Softmax with the three hardest background anchors a match, and smooth L1, over the matches."""
    each = cross_entropy(logits.transpose(1, 2), classes, reduction="none")
    positive = classes > 0
    ranked = each.detach().masked_fill(positive, -1).argsort(1, descending=True).argsort(1)
    counted = positive | (ranked < 3 * positive.sum(1, keepdim=True).clamp(min=1))
    location = smooth_l1_loss(deltas[positive], targets[..., :4][positive], reduction="sum")
    return (each[counted].sum() + location) / positive.sum()


class TorchSSD(torch.nn.Module):
    """SSD300 as published; names of layers as in Caffe."""

    def __init__(self) -> None:
        super().__init__()
        shapes = {}
        channels = 3
        for block, (count, width) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), start=1):
            for i in range(1, count + 1):
                shapes[f"conv{block}_{i}"] = (width, channels, 3)
                channels = width
        shapes |= {"fc6": (1024, 512, 3), "fc7": (1024, 1024, 1)}
        shapes |= {"conv6_1": (256, 1024, 1), "conv6_2": (512, 256, 3), "conv7_1": (128, 512, 1)}
        shapes |= {"conv7_2": (256, 128, 3), "conv8_1": (128, 256, 1), "conv8_2": (256, 128, 3)}
        shapes |= {"conv9_1": (128, 256, 1), "conv9_2": (256, 128, 3)}
        self.sources = [(m.layer, m.anchors_per_cell) for m in SPEC.feature_maps]
        for (name, count), width in zip(self.sources, (512, 1024, 512, 256, 256, 256), strict=True):
            shapes[f"{name}_mbox_conf"] = (count * (CLASSES + 1), width, 3)
            shapes[f"{name}_mbox_loc"] = (count * 4, width, 3)
        for name, (out, into, size) in shapes.items():
            spread = (2 / (into * size * size)) ** 0.5
            kernel = torch.nn.Parameter(torch.randn(out, into, size, size) * spread)
            self.register_parameter(f"{name}_kernel", kernel)
            self.register_parameter(f"{name}_bias", torch.nn.Parameter(torch.zeros(out)))
        self.scale = torch.nn.Parameter(torch.full((1, 512, 1, 1), 20.0))

    def _conv(self, x: torch.Tensor, name: str, **options: int) -> torch.Tensor:
        kernel, bias = getattr(self, f"{name}_kernel"), getattr(self, f"{name}_bias")
        return conv2d(x, kernel, bias, **options)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = []
        for block, count in enumerate((2, 2, 3, 3, 3), start=1):
            for i in range(1, count + 1):
                x = self._conv(x, f"conv{block}_{i}", padding=1).relu()
            if block == 4:
                wide = x.float()
                maps.append(wide / (wide.square().sum(1, keepdim=True) + 1e-10).sqrt() * self.scale)
            x = max_pool2d(x, 2, 2, ceil_mode=True) if block < 5 else max_pool2d(x, 3, 1, padding=1)
        x = self._conv(x, "fc6", padding=6, dilation=6).relu()
        x = self._conv(x, "fc7").relu()
        maps.append(x)
        last = {6: {"stride": 2, "padding": 1}, 7: {"stride": 2, "padding": 1}, 8: {}, 9: {}}
        for block, options in last.items():
            x = self._conv(x, f"conv{block}_1").relu()
            x = self._conv(x, f"conv{block}_2", **options).relu()
            maps.append(x)
        outputs = []
        for kind, values in (("conf", CLASSES + 1), ("loc", 4)):
            heads = [
                self._conv(m, f"{name}_mbox_{kind}", padding=1).permute(0, 2, 3, 1).flatten(1)
                for m, (name, _) in zip(maps, self.sources, strict=True)
            ]
            outputs.append(torch.cat(heads, 1).reshape(len(x), -1, values))
        return outputs[0], outputs[1]


if __name__ == "__main__":
    main()
