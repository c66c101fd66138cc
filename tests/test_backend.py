"""The door to Keras: fc6 trains with oneDNN and without it."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("keras", reason="needs the extra 'train'")

PROGRAM = """
from ssd.backend import dilated_conv2d, keras
import numpy as np
import tensorflow as tf

draw = np.random.default_rng(0)
picture = tf.constant(draw.normal(size=(1, 9, 9, 2)), tf.float32)
kernel = tf.Variable(draw.normal(size=(3, 3, 2, 4)), dtype=tf.float32)

@tf.function
def gradients():
    with tf.GradientTape() as tape:
        tape.watch(picture)
        loss = tf.reduce_sum(dilated_conv2d(picture, kernel, 3) ** 2)
    return tape.gradient(loss, [picture, kernel])

print(*(float(tf.reduce_sum(tf.abs(g))) for g in gradients()))
"""


def test_a_dilated_convolution_trains_with_onednn_and_without():
    # Without it TensorFlow has no gradient of tf.nn.conv2d with dilation.
    sums = []
    for flag in "01":
        env = os.environ | {"TF_ENABLE_ONEDNN_OPTS": flag}
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        sums.append([float(word) for word in done.stdout.split()])
    assert len(sums[0]) == 2
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)
