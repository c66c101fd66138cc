"""The reference: pycocotools on the columns that this project's metrics take."""

import contextlib
import io

import numpy as np

from ssd.metrics.tables import Found, Truth

KEYS = "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl".split()


def coco_files(truth: Truth, found: Found) -> tuple[dict, list[dict]]:
    """A COCO data set and a results list of the same boxes, image and category ids from 1."""
    truth_boxes = np.concatenate([truth.boxes_px[:, :2], truth.sides_px], 1).tolist()
    found_boxes = np.concatenate([found.boxes_px[:, :2], found.sides_px], 1).tolist()
    # It knows no difficult boxes, but leaves out those whose area is of no size.
    area = np.where(truth.difficult & ~truth.crowd, 1e11, truth.area).tolist()
    annotations = [
        {
            "id": i + 1,
            "image_id": int(truth.image[i]) + 1,
            "category_id": int(truth.labels[i]) + 1,
            "bbox": truth_boxes[i],
            "area": area[i],
            "iscrowd": int(truth.crowd[i]),
        }
        for i in range(len(truth))
    ]
    results = [
        {"image_id": i + 1, "category_id": c + 1, "bbox": box, "score": score}
        for i, c, box, score in zip(
            found.image.tolist(), found.labels.tolist(), found_boxes, found.scores.tolist(), strict=True
        )
    ]
    images = [{"id": i + 1, "width": 1000, "height": 1000} for i in range(len(truth.image_ids))]
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(truth.class_names)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def pycocotools_scores(data: dict, results: list[dict]) -> dict[str, float | None]:
    """The twelve numbers; None for its -1."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = data
        truth.createIndex()
        found = truth.loadRes(results) if results else COCO()
        if not results:
            found.dataset = {"images": data["images"], "annotations": [], "categories": data["categories"]}
            found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = [None if v == -1 else float(v) for v in evaluation.stats]
    return dict(zip(KEYS, values, strict=True))
