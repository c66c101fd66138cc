"""What the augmentation draws, over many seeds, against the ranges of the paper and of Caffe's examples.

Tolerances are four standard errors of a share, and the 0.1% point of Kolmogorov and Smirnov's test.
"""

from collections import Counter

import numpy as np
import pytest

A = pytest.importorskip("albumentations", reason="needs the extra 'train'")

from ssd import augment  # noqa: E402
from ssd.augment import CROP_CHOICES, Expand, MinIoUCrop, SSDAugmentation  # noqa: E402
from ssd.boxes import iou  # noqa: E402

SEEDS = 1200
HEIGHT, WIDTH = 60, 80
BOXES = np.float32([[0.05, 0.05, 0.95, 0.95]])  # large, so that every choice of crop can be met


class Recorder(tuple):
    """A sequence that remembers what `random.choice` took of it."""

    def __getitem__(self, index):
        self.taken.append(super().__getitem__(index))
        return self.taken[-1]


@pytest.fixture(scope="module")
def drawn():
    """Parameters of SEEDS runs of the whole chain, read where each step draws them."""
    with pytest.MonkeyPatch.context() as patch:
        choices = Recorder(CROP_CHOICES)
        choices.taken = []
        patch.setattr(augment, "CROP_CHOICES", choices)
        found = {"choice": choices.taken, "canvas": [], "patch": [], "flip": [], "resize": []}

        def watch(owner, name, key, read):
            original = getattr(owner, name)

            def wrapper(self, *args, **options):
                out = original(self, *args, **options)
                found[key].append(read(self, out, args))
                return out

            patch.setattr(owner, name, wrapper)

        watch(Expand, "get_params_dependent_on_data", "canvas", lambda self, out, args: out["canvas"])
        watch(MinIoUCrop, "_draw", "patch", lambda self, out, args: (args[0], args[1], out))
        watch(A.HorizontalFlip, "apply", "flip", lambda self, out, args: 1)
        watch(A.Resize, "apply", "resize", lambda self, out, args: self.interpolation)
        chain = SSDAugmentation(32)
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for seed in range(SEEDS):
            chain(image, BOXES, np.array([0]), seed=seed)
    return found


def assert_share(count, total, share):
    assert abs(count / total - share) < 4 * np.sqrt(share * (1 - share) / total)


def test_expansion_comes_to_half_of_the_images(drawn):
    assert_share(len(drawn["canvas"]), SEEDS, 0.5)


def test_expansion_is_uniform_between_1_and_4(drawn):
    ratios = np.sort([height / HEIGHT for height, _ in drawn["canvas"]])
    assert 1 <= ratios[0] < 1.05
    assert 3.95 < ratios[-1] <= 4
    expected = (ratios - 1) / 3
    distance = np.abs(np.arange(1, len(ratios) + 1) / len(ratios) - expected).max()
    assert distance < 1.95 / np.sqrt(len(ratios))
    # Both sides by the same ratio, but for the rounding to pixels.
    assert all(abs(h / HEIGHT - w / WIDTH) < 0.5 / HEIGHT + 0.5 / WIDTH for h, w in drawn["canvas"])


def test_the_seven_kinds_of_crop_are_equally_likely(drawn):
    counts = Counter(drawn["choice"])
    assert set(counts) == {None, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9}
    for count in counts.values():
        assert_share(count, len(drawn["choice"]), 1 / 7)


def test_patches_keep_scale_aspect_and_overlap(drawn):
    taken = [(boxes, least, patch) for boxes, least, patch in drawn["patch"] if patch is not None]
    sides = np.array([patch[2:] - patch[:2] for _, _, patch in taken])
    scale, aspect = np.sqrt(sides.prod(1)), sides[:, 0] / sides[:, 1]
    assert 0.3 - 1e-9 <= scale.min() < 0.34
    assert 0.97 < scale.max() <= 1 + 1e-9
    assert 0.5 - 1e-9 <= aspect.min() < 0.55
    assert 1.8 < aspect.max() <= 2 + 1e-9
    assert all(iou(patch[None], boxes).max() >= least for boxes, least, patch in taken)
    assert all(((patch >= 0) & (patch <= 1)).all() for _, _, patch in taken)


def test_scale_and_aspect_are_uniform_as_caffe_draws_them():
    # A cloud of boxes puts a centre into every patch: what is drawn is what is taken.
    x, y = (v.ravel() for v in np.meshgrid(np.linspace(0.02, 0.98, 40), np.linspace(0.02, 0.98, 40)))
    cloud = np.stack([x - 0.01, y - 0.01, x + 0.01, y + 0.01], axis=1)
    crop, sides = MinIoUCrop(trials=1), []
    for seed in range(600):
        crop.set_random_seed(seed)
        patch = crop._draw(cloud, 0.0)
        sides.append(patch[2:] - patch[:2])
    sides = np.array(sides)
    scale, aspect = np.sqrt(sides.prod(1)), sides[:, 0] / sides[:, 1]
    # GenerateSamples of Caffe's sampler.cpp: the ratio itself is uniform, so wide patches are more
    # frequent than high ones, between bounds that keep both sides below 1.
    low, high = np.maximum(0.5, scale**2), np.minimum(2, 1 / scale**2)
    for share in ((scale - 0.3) / 0.7, (aspect - low) / (high - low)):
        distance = np.abs(np.arange(1, 601) / 600 - np.sort(share)).max()
        assert distance < 1.95 / np.sqrt(600)


def test_half_of_the_views_are_mirrored(drawn):
    assert_share(len(drawn["flip"]), SEEDS, 0.5)


def test_the_five_interpolations_are_equally_likely(drawn):
    counts = Counter(drawn["resize"])
    assert len(counts) == 5
    for count in counts.values():
        assert_share(count, SEEDS, 1 / 5)


def test_no_expansion_where_it_is_turned_off():
    chain, image = SSDAugmentation(32, max_expand=1.0), np.full((HEIGHT, WIDTH, 3), 250, np.uint8)
    geometry = [step for step in chain._chain.transforms if isinstance(step, Expand)]
    assert geometry[0].max_ratio == 1
    for seed in range(20):
        chain._chain.transforms[0].p = 0
        assert chain(image, BOXES, np.array([0]), seed=seed)[0].min() == 250  # nothing of the mean colour
