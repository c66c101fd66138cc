"""CIFAR-10 and CIFAR-100, fetched by keras.datasets and kept in its cache."""

import numpy as np

from ssd.backend import keras
from ssd.classify.data import ImageSet

CIFAR10 = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
CIFAR100 = tuple(
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel "
    "can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur "
    "dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion "
    "lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree "
    "pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea "
    "seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table "
    "tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman "
    "worm".split()
)
NAMES = {"cifar10": CIFAR10, "cifar100": CIFAR100}
SPLITS = ("train", "test")


def read_cifar(name: str, split: str) -> ImageSet:
    """A split of "cifar10" or "cifar100": 50,000 pictures to train on, 10,000 to test with, 32x32.

    Raises:
        ValueError: another split.
        ConnectionError: it is not in the cache of Keras and cannot be fetched.
    """
    if split not in SPLITS:
        raise ValueError(f"split of {name} must be train or test. Received: {split!r}")
    try:
        loaded = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises a plain Exception where the network fails
        raise ConnectionError(
            f"{name} could not be fetched ({' '.join(str(error).split())[:200]}). It needs a network once; "
            "class folders of your own need none"
        ) from None
    pixels, labels = loaded[SPLITS.index(split)]
    labels = np.asarray(labels, np.int64).reshape(-1)
    names = tuple(f"{name}/{split}/{i}" for i in range(len(labels)))
    return ImageSet(NAMES[name], labels, names, np.asarray(pixels, np.uint8))
