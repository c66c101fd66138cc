"""Faults of one image as a whole: files that are missing or damaged, sizes, EXIF rotation; and notes."""

from dataclasses import replace

from ssd.datasets.box_faults import scale_boxes, turn_boxes
from ssd.datasets.faults import Fault
from ssd.datasets.labelled import LabelledImage, PartBoxError
from ssd.datasets.photos import PhotoFacts


def unusable(image: LabelledImage, fact: PhotoFacts) -> Fault | None:
    """Why nothing more can be said of an image."""
    if not image.path.is_file():
        if isinstance(image.error, ValueError):  # a path that leads out of the folder, or none
            return Fault("unreadable_label", image.source, str(image.error))
        return Fault("missing_image", image.path, f"the photo of {image.source.name} is not there")
    if fact.error:
        return Fault("unreadable_image", image.path, f"the photo cannot be read: {fact.error}")
    if isinstance(image.error, FileNotFoundError):
        return Fault("missing_label", image.source, f"the labels of {image.path.name} are not there")
    if isinstance(image.error, PartBoxError):
        return Fault("part_box", image.source, str(image.error))
    if image.error:
        return Fault("unreadable_label", image.source, str(image.error))
    return None


def mend_size(image: LabelledImage, fact: PhotoFacts, kind: str) -> tuple[Fault | None, LabelledImage | None]:
    """Compare the size in the label file with the photo's; None for the image if it cannot be mended."""
    said, stored, seen = (image.height, image.width), (fact.height, fact.width), fact.seen_size
    if said == seen:
        # YOLO says no size. Turns by half and mirrors keep it, as every turn of a square does.
        if fact.orientation != 1 and image.objects and (stored == seen or kind == "yolo"):
            text = f"EXIF orientation is {fact.orientation}, and the labels cannot tell whether they know"
            return Fault("exif_unsure", image.path, text), image
        return None, image
    names = [f"{width}x{height}" for height, width in (said, seen)]
    if said == stored:
        text = f"the labels are for {names[0]}, but EXIF orientation {fact.orientation} shows {names[1]}"
        return Fault("exif_rotation", image.source, text), turn_boxes(image, fact.orientation, *stored)
    fault = Fault("size_mismatch", image.source, f"the label file says {names[0]}, the photo has {names[1]}")
    same_shape = min(said) > 0 and abs(said[0] / said[1] * seen[1] / seen[0] - 1) < 0.01
    if same_shape:
        return fault, scale_boxes(image, *seen)
    fits = all(found.box_px[2] <= seen[1] and found.box_px[3] <= seen[0] for found in image.objects)
    return fault, replace(image, height=seen[0], width=seen[1]) if fits else None


def notes_of(images: list[LabelledImage]) -> list[Fault]:
    notes = [
        Fault("background", image.path, "no box")
        for image in images
        if not image.objects and not image.error and image.path.is_file()
    ]
    if holding := [image for image in images if image.part_boxes]:
        count = sum(len(image.part_boxes) for image in holding)
        text = f"{count} <part> boxes in {len(holding)} files (first: this one) are no objects and not read"
        notes.append(Fault("part_boxes", holding[0].source, text))
    return notes
