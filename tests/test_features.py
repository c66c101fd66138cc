"""The frozen front in int8, and the cache of its maps: finite, or a word about it."""

import numpy as np
import pytest

from ssd.backend import keras
from ssd.features import CompiledFront, FeatureCache, frozen_features
from ssd.model import L2Normalize


@pytest.fixture(scope="module")
def front():
    """Features of 0 on a dark picture, of hundreds on a bright one, and their normalisation behind."""
    keras.utils.set_random_seed(0)
    picture = keras.Input((16, 16, 3))
    features = keras.layers.Conv2D(8, 3, activation="relu", padding="same", name="conv4_3")(picture)
    return keras.Model(picture, [L2Normalize(name="norm")(features), features])


def bright(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, (16, 16, 3)).astype(np.float32)


def test_int8_normalises_small_features_as_keras_does(front):
    # In eight bits the square of 1 beside that of 255 is 0, and 0 / 0 is NaN.
    compiled = CompiledFront(front, [bright(seed) for seed in range(8)])
    for scale in (0, 1 / 255, 0.02, 1):
        picture = bright(8) * np.float32(scale)
        normal, features = compiled(picture)
        assert np.isfinite(normal).all()
        norm = np.sqrt((np.square(features).sum(-1, keepdims=True)) + 1e-10)
        assert normal == pytest.approx(20 * features / norm, abs=1e-3)


class OnePhoto:
    """Views of one photo."""

    def __init__(self, path):
        self.samples = [type("Sample", (), {"path": path})]
        self.key = {}

    def __call__(self, i: int) -> tuple:
        return bright(i), np.zeros((0, 4), np.float32), np.zeros(0, np.int64)


@pytest.mark.parametrize("cache_views", [0, 1])
def test_features_that_are_not_finite_are_named_with_their_photo(front, tmp_path, cache_views):
    front.get_layer("norm").set_weights([np.full(8, np.inf, np.float32)])
    views = OnePhoto(tmp_path / "night.jpg")
    folder = tmp_path / "cache"

    def first() -> tuple:
        get, _ = frozen_features(
            front, views, views, "f32", cache_views, folder, print, lambda items, text, total: items
        )
        return get(0)

    with pytest.raises(ValueError, match=r"finite features.*view 0.*night\.jpg"):
        first()


def test_a_cache_refuses_what_float16_cannot_hold(tmp_path):
    cache = FeatureCache(tmp_path, [(1, 1, 2)], 1, {})
    view = [np.array([[[1.0, 70000.0]]], np.float32)], np.zeros((0, 4), np.float32), np.zeros(0, int)
    with pytest.raises(ValueError, match=r"float16's range.*70000"):
        list(cache.fill(lambda i: view, [0]))
    assert cache.missing() == [0]
