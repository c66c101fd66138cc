"""An error in the middle of an epoch ends the program, whatever its threads are at."""

import subprocess
import sys

PROGRAM = """
import time
import numpy as np
from ssd.backend import keras
from ssd.batches import Batches
from ssd.spec import SPECS

def get(i):
    time.sleep(0 if i < 4 else 2)  # the first step ends while the next batches are being made
    return np.zeros(2, np.float32), np.zeros((0, 4), np.float32), np.zeros(0, np.int64)

class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise ValueError("the loss must be finite")

picture = keras.Input((2,))
outputs = [keras.layers.Dense(8732)(picture)]
outputs.append(keras.layers.Reshape((8732, 5))(keras.layers.Dense(8732 * 5)(picture)))
model = keras.Model(picture, outputs)
model.compile("sgd", ["mse", "mse"])
try:
    model.fit(Batches(get, 40, SPECS["ssd300"], 2, workers=1), verbose=0, callbacks=[Stop()])
except ValueError as error:
    print(error, flush=True)
    raise SystemExit(3) from error
"""


def test_an_error_within_fit_ends_the_program():
    # By one thread of TensorFlow's own it hung for ever; the limit is for a busy machine.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=240, check=False
    )
    assert (done.returncode, done.stdout) == (3, "the loss must be finite\n"), done.stderr
