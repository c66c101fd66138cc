"""`Detector.load("default")(image) -> Detections`: a compiled model, run without Keras."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ssd.anchors import decode, make_anchors
from ssd.boxes import clip, nms
from ssd.card import CARD_NAME, ModelCard, card_from_json, file_sha256
from ssd.images import load_image, preprocess
from ssd.records import Detections
from ssd.spec import SSDSpec

WEIGHTS = Path(__file__).parent / "weights"  # in the installed package
WEIGHTS = WEIGHTS if WEIGHTS.is_dir() else Path(__file__).parent.parent / "weights"  # in a checkout
DEFAULT_MODEL = "ssd300_vgg16_animals6_v1"
CANDIDATES = 400  # best boxes of a class that enter suppression, as in the paper
MAX_STREAMS = 4  # pictures in the network at once; each takes memory of its own


class Detector:
    """Finds objects in pictures with a compiled SSD300.

    Args:
        card: what the model is.
        run: (1, S, S, 3) float32 preprocessed -> class_logits (1, A, C + 1), box_deltas (1, A, 4);
            called from several threads at once where streams are more than 1.
        streams: pictures that `find_all` has in the network at once.
    """

    def __init__(self, card: ModelCard, run: Callable, streams: int = 1) -> None:
        self.card = card
        self.streams = streams
        self._run = run
        self._anchors = make_anchors(card.ssd_spec)

    @classmethod
    def load(
        cls, model: str | Path = "default", threads: int | None = None, *, many: bool = False
    ) -> "Detector":
        """Load a compiled model.

        Args:
            model: "default", the name of a model that is shipped, or the path of a model folder
                (card.json, model.xml, model.bin).
            threads: of the network; None: all cores.
            many: for many pictures, with `find_all`: a core each for several at once rather than all
                for one, which is sooner done with all of them. The results are the same.
        Raises:
            FileNotFoundError: no such model; the message lists those that exist.
            ValueError: a file of the model is damaged or was changed.
        """
        folder = find_model(model)
        card = card_from_json((folder / CARD_NAME).read_text("utf-8"), str(folder / CARD_NAME))
        for name in ("model.xml", "model.bin"):
            if card.sha256.get(name) != file_sha256(folder / name):
                raise ValueError(f"a model file must have the SHA-256 of its card. Received: {folder / name}")
        streams = min(threads or _cores(), MAX_STREAMS) if many else 1
        return cls(card, _compile(folder / "model.xml", card.precision, threads, streams), streams)

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
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise ValueError(f"image must be (H, W, 3) uint8. Received: {image.shape} {image.dtype}")
        card = self.card
        batch = preprocess(image, card.ssd_spec.image_size, card.preprocessing)[None]
        logits, deltas = self._run(batch)
        boxes, labels, scores = postprocess(
            logits[0],
            deltas[0],
            self._anchors,
            card.ssd_spec,
            card.score_threshold if score_threshold is None else score_threshold,
            card.iou_threshold if iou_threshold is None else iou_threshold,
            card.max_detections if max_detections is None else max_detections,
        )
        return Detections(boxes, labels, scores, card.class_names, *image.shape[:2])

    def find_all(self, pictures: Iterable[np.ndarray | str | Path], **limits: object) -> Iterator[Future]:
        """Find objects in many pictures; files are decoded while others are in the network.

        Args:
            pictures: (H, W, 3) uint8 RGB arrays or files, taken a few ahead of what is asked for.
            limits: as for a single picture.
        Returns:
            one future a picture, in order: its result is the picture and its detections, the same as
            one by one, or what `load_image` raised.
        """

        def find(picture: np.ndarray | str | Path) -> tuple[np.ndarray, Detections]:
            image = picture if isinstance(picture, np.ndarray) else load_image(picture)
            return image, self(image, **limits)

        # One more than the network takes: it decodes meanwhile.
        return in_order(find, pictures, self.streams + 1)

    def operating_point(self, default: float) -> float | np.ndarray:
        """What `score_threshold` takes for the thresholds of the card: `default` for classes without."""
        chosen = self.card.thresholds
        if not chosen:
            return default
        # A score of exactly a chosen threshold passes, but must exceed what is given here.
        below = {name: np.nextafter(np.float32(value), np.float32(-1)) for name, value in chosen.items()}
        return np.array([below.get(name, default) for name in self.class_names], dtype=np.float32)


def in_order(call: Callable, items: Iterable, workers: int) -> Iterator[Future]:
    """Futures of `call` on each item, in order, computed by threads a few items ahead."""
    waiting: deque[Future] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append(pool.submit(call, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for future in waiting:  # nobody will ask for these
            future.cancel()
        pool.shutdown()


def postprocess(
    class_logits: np.ndarray,
    box_deltas: np.ndarray,
    anchors: np.ndarray,
    spec: SSDSpec,
    score_threshold: float | np.ndarray = 0.01,
    iou_threshold: float = 0.45,
    max_detections: int = 200,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn the raw output for one picture into boxes: softmax, decoding, suppression a class.

    Args:
        class_logits: (A, C + 1), column 0 background.
        box_deltas: (A, 4).
        anchors: (A, 4) boxes of the spec.
        spec: for its variances.
        score_threshold: a score must exceed this, or (C,) one a class; the defaults are the paper's.
        iou_threshold: of the suppression.
        max_detections: of all classes together.
    Returns:
        (N, 4) boxes cut to the image, (N,) int64 labels, (N,) float32 scores, best first.
    Source: Liu et al. 2016, arXiv:1512.02325, section 3; weiliu89/caffe, detection_output_layer.cpp.
    """
    scores = _softmax(class_logits)[:, 1:]
    found = [np.empty((0, 4), np.float32)], [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for label, limit in enumerate(np.broadcast_to(np.float32(score_threshold), scores.shape[1])):
        chosen = np.flatnonzero(scores[:, label] > limit)
        if len(chosen) == 0:
            continue
        order = np.argsort(-scores[chosen, label], kind="stable")
        chosen = chosen[order[:CANDIDATES]]
        boxes = clip(decode(box_deltas[chosen], anchors[chosen], spec.variances))
        kept = nms(boxes, scores[chosen, label], iou_threshold)
        kept = kept[(boxes[kept, 2:] > boxes[kept, :2]).all(1)]
        parts = boxes[kept], np.full(len(kept), label), scores[chosen[kept], label]
        for values, part in zip(found, parts, strict=True):
            values.append(part)
    boxes, labels, scores = (np.concatenate(values) for values in found)
    best = np.argsort(-scores, kind="stable")[:max_detections]
    return boxes[best], labels[best], scores[best]


def find_model(model: str | Path) -> Path:
    """The folder of a model, by name or path.

    Raises:
        FileNotFoundError: no such model.
    """
    name = DEFAULT_MODEL if str(model) == "default" else str(model)
    for folder in (Path(name), WEIGHTS / name):
        folder = folder.parent if folder.name in (CARD_NAME, "model.xml") else folder
        if (folder / CARD_NAME).is_file():
            return folder
    if name.endswith(".weights.h5"):
        raise FileNotFoundError(f"a checkpoint must be compiled first: ssd export {name} --out MODEL")
    known = sorted(path.parent.name for path in WEIGHTS.glob(f"*/{CARD_NAME}"))
    raise FileNotFoundError(
        f"model must be a folder with {CARD_NAME}, or one of: default, {', '.join(known)}. "
        f"Received: {str(model)!r}"
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _compile(path: Path, precision: str, threads: int | None, streams: int) -> Callable:
    import openvino

    # OpenVINO picks bfloat16 by itself where the CPU has it; a precision is never silent here.
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if precision == "bf16":
        options["INFERENCE_PRECISION_HINT"] = "bf16"
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    if streams > 1:
        options |= {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": streams}
    compiled = openvino.Core().compile_model(path, "CPU", options)
    own = threading.local()

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # A request holds its inputs and outputs: every thread has its own.
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        results = own.request.infer(batch, share_inputs=True)
        return results[0], results[1]

    return run
