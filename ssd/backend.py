"""The one door to Keras: every room that needs it imports it from here.

It sets what must be set before TensorFlow is imported, and turns a missing package into one line.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow leaves oneDNN off on CPUs without AVX-512 VNNI, where its matrix product is twice as
# fast as Eigen's all the same.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

try:
    import keras
except ImportError as error:
    raise ImportError("this needs an extra: pip install '.[train]'") from error

__all__ = ["keras"]
