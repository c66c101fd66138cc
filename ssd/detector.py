"""`Detector.load("default")(image) -> Detections`: a compiled model, run without Keras."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from pathlib import Path

import numpy as np

from ssd.anchors import make_anchors
from ssd.card import CARD_NAME, ModelCard
from ssd.images import load_image, preprocess
from ssd.pipeline import in_order
from ssd.postprocess import choose, postprocess
from ssd.records import Detections
from ssd.runtimes.network import Limits, Network, Options, Outputs, model_file, open_network, read_model_card

WEIGHTS = Path(__file__).parent / "weights"  # in the installed package
WEIGHTS = WEIGHTS if WEIGHTS.is_dir() else Path(__file__).parent.parent / "weights"  # in a checkout
DEFAULT_MODEL = "ssd300_vgg16_animals6_v5"
HELPERS = 2  # threads beyond the pictures in the network: one decodes, one draws and encodes


class Detector:
    """Finds objects in pictures with an SSD300.

    Args:
        card: what the model is.
        network: the runtime that has it, from `ssd.runtimes.network.open_network`.
    """

    def __init__(self, card: ModelCard, network: Network) -> None:
        self.card, self.network = card, network
        self.anchors = make_anchors(card.ssd_spec)

    @classmethod
    def load(
        cls, model: str | Path = "default", threads: int | None = None, *, many: bool = False, batch: int = 1
    ) -> "Detector":
        """Load a model; what its file is decides what runs it.

        Args:
            model: "default", the name of a model that is shipped, the path of a model folder (card.json
                and model.xml with model.bin, model.onnx, model.tflite or saved_model/), or a checkpoint
                of `ssd train`, NAME.weights.h5, which Keras runs.
            threads: of the network; None: all cores.
            many: for many pictures, with `find_all`: a core each for several at once rather than all
                for one, which is sooner done with all of them. The results are the same.
            batch: pictures in one call of the network; the results are the same.
        Raises:
            FileNotFoundError: no such model; the message lists those that exist.
            ValueError: a file of the model is damaged or was changed, or refuses the batch.
            ImportError: the runtime of that file is not installed.
        """
        file = find_model(model)
        card = read_model_card(file)
        return cls(card, open_network(file, card, Options(threads, many, batch)))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that it knows; labels of detections index them."""
        return self.card.class_names

    def __call__(
        self,
        image: np.ndarray,
        *,
        score_threshold: float | np.ndarray | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> Detections:
        """Find objects.

        Args:
            image: (H, W, 3) uint8 RGB.
            score_threshold: least score in [0, 1], or (C,) one a class; this and the next two default
                to the card's.
            iou_threshold: boxes of one class that overlap more than this are one object.
            max_detections: of all classes together.
        Returns:
            best score first, boxes cut to the image.
        Raises:
            ValueError: the image has another shape or type.
        """
        return self.find_batch([image], score_threshold, iou_threshold, max_detections)[0]

    def find_batch(
        self,
        images: list[np.ndarray],
        score_threshold: float | np.ndarray | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> list[Detections]:
        """Find objects in pictures of any sizes: what `__call__` finds in each, in `batch`es of the network.

        Raises:
            ValueError: an image has another shape or type.
        """
        card, found = self.card, []
        limits = Limits(
            card.score_threshold if score_threshold is None else score_threshold,
            card.iou_threshold if iou_threshold is None else iou_threshold,
            card.max_detections if max_detections is None else max_detections,
        )
        for start in range(0, len(images), self.network.batch):
            some = images[start : start + self.network.batch]
            outputs = self.network(self.prepare(some))
            for i, image in enumerate(some):
                parts = self.boxes(outputs, i, limits)
                found.append(Detections(*parts, card.class_names, *image.shape[:2]))
        return found

    def prepare(self, images: list[np.ndarray]) -> np.ndarray:
        """(batch, S, S, 3) float32 for the network, of at most `batch` pictures; the rest is zero.

        Raises:
            ValueError: an image has another shape or type.
        """
        card = self.card
        size = card.ssd_spec.image_size
        batch = np.zeros((self.network.batch, size, size, 3), np.float32)
        for row, image in zip(batch, images, strict=False):
            _check(image)
            row[:] = preprocess(image, size, card.preprocessing)
        return batch

    def boxes(self, outputs: Outputs, i: int, limits: Limits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes, labels and scores of picture i, as `ssd.postprocess.postprocess` gives them.

        What the graph has suppressed itself is taken where its limits allow.
        """
        graph = self.network.limits
        if (
            graph
            and np.float32(limits.iou_threshold) == np.float32(graph.iou_threshold)
            and np.min(limits.score_threshold) >= np.float32(graph.score_threshold)
            and limits.max_detections <= graph.max_detections
        ):
            return choose(*outputs.found[i], limits.score_threshold, limits.max_detections)
        raw = outputs.class_logits[i], outputs.box_deltas[i]
        return postprocess(*raw, self.anchors, self.card.ssd_spec, *limits)

    def find_all(
        self,
        pictures: Iterable[np.ndarray | str | Path],
        then: Callable[[int, np.ndarray, Detections], object] = lambda number, image, found: (image, found),
        **limits: object,
    ) -> Iterator[Future]:
        """Find objects in many pictures; files are decoded while others are in the network.

        Args:
            pictures: (H, W, 3) uint8 RGB arrays or files, taken a few ahead of what is asked for.
            then: told the number of a picture from 0, the picture and its detections, by the thread
                that has found them, for what may overlap with the network as well, such as drawing.
            limits: as for a single picture.
        Returns:
            one future a picture, in order: its result is the picture and its detections, the same as
            one by one, or what `then` returned; or it raises what `load_image` or `then` raised.
        """

        def find(some: list[tuple[int, np.ndarray | str | Path]]) -> list[Future]:
            opened = [_done(_open, picture) for _, picture in some]
            images = [future.result() for future in opened if not future.exception()]
            found = iter(self.find_batch(images, **limits))
            return [
                future if future.exception() else _done(then, number, future.result(), next(found))
                for future, (number, _) in zip(opened, some, strict=True)
            ]

        # More than the network takes: the others decode and draw meanwhile.
        groups = _groups(enumerate(pictures), self.network.batch)
        for group in in_order(find, groups, self.network.streams + HELPERS):
            yield from group.result()

    def operating_point(self, default: float) -> float | np.ndarray:
        """What `score_threshold` takes for the thresholds of the card: `default` for classes without."""
        chosen = self.card.thresholds
        if not chosen:
            return default
        # A score of exactly a chosen threshold passes, but must exceed what is given here.
        below = {name: np.nextafter(np.float32(value), np.float32(-1)) for name, value in chosen.items()}
        return np.array([below.get(name, default) for name in self.class_names], dtype=np.float32)


def find_model(model: str | Path) -> Path:
    """The file of a model, by the name of a shipped one or by path.

    Raises:
        FileNotFoundError: no such model.
    """
    name = DEFAULT_MODEL if str(model) == "default" else str(model)
    for path in (Path(name), WEIGHTS / name):
        path = path.parent if path.name == CARD_NAME else path
        if file := model_file(path):
            return file
    known = sorted(path.parent.name for path in WEIGHTS.glob(f"*/{CARD_NAME}"))
    raise FileNotFoundError(
        f"model must be a folder with {CARD_NAME}, a checkpoint, or one of: default, {', '.join(known)}. "
        f"Received: {str(model)!r}"
    )


def _open(picture: np.ndarray | str | Path) -> np.ndarray:
    image = picture if isinstance(picture, np.ndarray) else load_image(picture)
    _check(image)
    return image


def _done(call: Callable, *args: object) -> Future:
    """A future that has what a call returned or raised."""
    future = Future()
    try:
        future.set_result(call(*args))
    except Exception as error:
        future.set_exception(error)
    return future


def _check(image: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"image must be (H, W, 3) uint8. Received: {image.shape} {image.dtype}")


def _groups(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while group := list(islice(items, size)):
        yield group
