"""Numbers of a classification, by scikit-learn's definitions."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scores:
    """How well predicted classes agree with true ones."""

    class_names: tuple[str, ...]
    confusion: np.ndarray  # (C, C) int64, row true class, column predicted class
    accuracy: float
    rows: tuple[tuple[str, float, float, float, int], ...]  # class, precision, recall, f1, images

    def as_dict(self) -> dict:
        """Plain data, keyed as scikit-learn's `classification_report(output_dict=True)`."""
        keys = ("precision", "recall", "f1-score", "support")
        report = {name: dict(zip(keys, values, strict=True)) for name, *values in self.rows}
        return {
            "accuracy": self.accuracy,
            "report": report,
            "confusion": self.confusion.tolist(),
            "class_names": list(self.class_names),
        }


AVERAGES = ("macro avg", "weighted avg")


def score(true: np.ndarray, predicted: np.ndarray, class_names: tuple[str, ...]) -> Scores:
    """Confusion matrix, accuracy, and precision, recall and F1 of each class, with their averages.

    A quotient without a denominator counts as 0. The last rows are the plain mean over the classes and the
    mean weighted by their images.

    Args:
        true: (N,) labels, index into class_names.
        predicted: (N,) likewise.
    Raises:
        ValueError: no images, or lists of two lengths.
    """
    true, predicted = np.asarray(true, np.int64), np.asarray(predicted, np.int64)
    if true.shape != predicted.shape or not len(true):
        raise ValueError(f"there must be a prediction an image. Received: {len(predicted)} for {len(true)}")
    count = len(class_names)
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (true, predicted), 1)
    hits, support = np.diag(confusion).astype(float), confusion.sum(axis=1)
    precision, recall = _share(hits, confusion.sum(axis=0)), _share(hits, support)
    f1 = _share(2 * precision * recall, precision + recall)
    columns = np.stack([precision, recall, f1], axis=1)
    rows = [(name, *row, int(n)) for name, row, n in zip(class_names, columns.tolist(), support, strict=True)]
    total = int(support.sum())
    means = (columns.mean(axis=0), support @ columns / total)
    rows += [(name, *mean.tolist(), total) for name, mean in zip(AVERAGES, means, strict=True)]
    return Scores(tuple(class_names), confusion, float(hits.sum() / total), tuple(rows))


def report_text(scores: Scores) -> str:
    """The table of classes in the layout of scikit-learn, and the confusion matrix below."""
    wide = max(12, *(len(name) for name, *_ in scores.rows))
    lines = [f"{'':>{wide}} {'precision':>9} {'recall':>9} {'f1-score':>9} {'support':>9}"]
    for name, precision, recall, f1, support in scores.rows:
        if name == AVERAGES[0]:
            total = f"{scores.accuracy:9.4f} {scores.confusion.sum():9d}"
            lines += ["", f"{'accuracy':>{wide}} {'':9} {'':9} {total}"]
        lines.append(f"{name:>{wide}} {precision:9.4f} {recall:9.4f} {f1:9.4f} {support:9d}")
    cell = max(len(str(scores.confusion.max())), 4)
    lines += ["", "confusion: row true, column predicted"]
    for name, row in zip(scores.class_names, scores.confusion, strict=True):
        lines.append(f"{name:>{wide}} " + " ".join(f"{n:{cell}d}" for n in row))
    return "\n".join(lines)


def worst(true: np.ndarray, shares: np.ndarray, most: int) -> list[int]:
    """Places of the images that are misclassified, the surest errors first.

    Args:
        true: (N,) labels.
        shares: (N, C) probabilities.
        most: places given at most.
    """
    guess = shares.argmax(axis=1)
    wrong = np.flatnonzero(guess != true)
    return wrong[np.argsort(-shares[wrong, guess[wrong]], kind="stable")][:most].tolist()


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=np.asarray(whole) > 0)
