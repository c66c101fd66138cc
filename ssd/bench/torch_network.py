"""PyTorch, eager, runs SSD300 with VGG16 in float32, as a user of torchvision's SSD runs it.

Batches are NCHW and contiguous, every layer is a module of its own; nothing is compiled or fused.
"""

import numpy as np
import torch
from torch import nn

from ssd.bench.layers import EPSILON, NORM, SOURCES, TRUNK, Arrays, Conv, head
from ssd.runtimes.network import Outputs, cores


class TorchSSD300(nn.Module):
    """The published network: (B, 3, 300, 300) -> (B, A, C + 1), (B, A, 4).

    Args:
        arrays: weights, from `ssd.bench.graph.read_arrays` or `ssd.bench.layers.random_arrays`.
        num_classes: without background.
    """

    def __init__(self, arrays: Arrays, num_classes: int) -> None:
        super().__init__()
        self.columns = num_classes + 1
        self.trunk = nn.ModuleDict()
        for row in TRUNK:
            if isinstance(row, Conv):
                options = {"stride": row.stride, "padding": row.padding, "dilation": row.dilation}
                conv = _conv(*arrays[row.name], **options)
                self.trunk[row.name] = nn.Sequential(conv, nn.ReLU(inplace=True))
            else:
                self.trunk[row.name] = nn.MaxPool2d(row.size, row.stride, row.padding, ceil_mode=True)
        self.scale = nn.Parameter(torch.from_numpy(arrays[NORM][0]).reshape(1, -1, 1, 1))
        for kind in ("conf", "loc"):
            heads = [_conv(*arrays[head(source, kind)], padding=1) for source in SOURCES]
            setattr(self, kind, nn.ModuleList(heads))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sources = []
        for name, layer in self.trunk.items():
            x = layer(x)
            if name == "conv4_3":
                length = (x.square().sum(1, keepdim=True) + EPSILON).sqrt()
                sources.append(x / length * self.scale)
            elif name in SOURCES:
                sources.append(x)
        return _outputs(self.conf, sources, self.columns), _outputs(self.loc, sources, 4)


class TorchNetwork:
    """The network in eager mode without gradients; see `ssd.runtimes.network.Network`."""

    limits, streams, about = None, 1, "torch eager f32"

    def __init__(self, arrays: Arrays, num_classes: int, threads: int | None = None, batch: int = 1) -> None:
        torch.set_num_threads(threads or cores())
        self.batch, self._model = batch, TorchSSD300(arrays, num_classes).eval()

    def __call__(self, batch: np.ndarray) -> Outputs:
        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))
            return Outputs(*(output.numpy() for output in self._model(x)))


def _conv(kernel: np.ndarray, bias: np.ndarray, **options: int) -> nn.Conv2d:
    conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2], **options)
    conv.weight.data, conv.bias.data = torch.from_numpy(kernel.copy()), torch.from_numpy(bias.copy())
    return conv


def _outputs(heads: nn.ModuleList, sources: list[torch.Tensor], values: int) -> torch.Tensor:
    """(B, A, values): rows, columns and channels of one source after the other."""
    parts = [
        head(x).permute(0, 2, 3, 1).reshape(len(x), -1, values)
        for head, x in zip(heads, sources, strict=True)
    ]
    return torch.cat(parts, dim=1)
