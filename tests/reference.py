"""An independent SSD300: the published network in plain PyTorch functions, to compare the program with.

Written from the papers' and Caffe's facts alone; it shares no code with the package.
"""

import numpy as np

# The maps that feed the heads, in the order of the anchors; the last one differs by generation.
_SOURCES = ("conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2")


def reference(
    arrays: dict[str, dict[str, np.ndarray]], images: np.ndarray, v1: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The two raw outputs of SSD300.

    Args:
        arrays: as `weight_files.random_arrays` gives them.
        images: (B, 300, 300, 3) float32 as the network is fed: BGR minus the mean.
        v1: the first generation, 7,308 anchors, instead of 8,732.
    Returns:
        logits (B, A, C), deltas (B, A, 4).
    """
    import torch

    weights = {
        name: {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in values.items()}
        for name, values in arrays.items()
    }
    with torch.inference_mode():
        x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        maps = _sources(weights, x, v1)
        conf, loc = (_outputs(weights, maps, kind) for kind in ("conf", "loc"))
        classes = conf.shape[1] // (loc.shape[1] // 4)
        return conf.reshape(len(x), -1, classes).numpy(), loc.reshape(len(x), -1, 4).numpy()


def _sources(weights: dict, x, v1: bool) -> dict:
    """(B, 3, 300, 300) -> the six maps by name, (B, C, H, W); pool6 is (B, 256)."""
    from torch.nn.functional import max_pool2d

    def conv(x, name: str, **options: int):
        return _conv(weights[name], x, **options).relu()

    maps = {}
    for block, count in enumerate((2, 2, 3, 3, 3), start=1):
        for i in range(1, count + 1):
            x = conv(x, f"conv{block}_{i}", padding=1)
        if block == 4:
            norm = (x.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()
            maps["conv4_3_norm"] = x / norm * weights["conv4_3_norm"]["scale"].reshape(1, -1, 1, 1)
        # Caffe rounds the size up: 75 cells become 38, not 37.
        x = max_pool2d(x, 2, 2, ceil_mode=True) if block < 5 else max_pool2d(x, 3, 1, padding=1)
    x = conv(x, "fc6", padding=6, dilation=6)
    maps["fc7"] = x = conv(x, "fc7")
    maps["conv6_2"] = x = conv(conv(x, "conv6_1"), "conv6_2", stride=2, padding=1)
    maps["conv7_2"] = x = conv(conv(x, "conv7_1"), "conv7_2", stride=2, padding=1)
    if v1:
        maps["conv8_2"] = x = conv(conv(x, "conv8_1"), "conv8_2", stride=2, padding=1)
        maps["pool6"] = x.mean(dim=(2, 3))
    else:
        maps["conv8_2"] = x = conv(conv(x, "conv8_1"), "conv8_2")
        maps["conv9_2"] = conv(conv(x, "conv9_1"), "conv9_2")
    return maps


def _outputs(weights: dict, maps: dict, kind: str):
    """(B, n): each head's output, rows then columns then channels, one source after the other."""
    import torch

    flat = []
    for name in _SOURCES:
        head = _conv(weights[f"{name}_mbox_{kind}"], maps[name], padding=1)
        flat.append(head.permute(0, 2, 3, 1).flatten(1))
    if "pool6" in maps:
        dense = weights[f"pool6_mbox_{kind}_flat"]
        flat.append(maps["pool6"] @ dense["kernel"] + dense["bias"])
    else:
        head = _conv(weights[f"conv9_2_mbox_{kind}"], maps["conv9_2"], padding=1)
        flat.append(head.permute(0, 2, 3, 1).flatten(1))
    return torch.cat(flat, dim=1)


def _conv(weight: dict, x, **options: int):
    from torch.nn.functional import conv2d

    return conv2d(x, weight["kernel"].permute(3, 2, 0, 1), weight["bias"], **options)
