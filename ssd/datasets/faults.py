"""What can be wrong with labelled photos, and what to do about it: a row a kind."""

from dataclasses import dataclass
from pathlib import Path

ERROR, WARNING, NOTE = "error", "warning", "note"

# kind -> level, remedy. Errors spoil training or scores; warnings may; notes are only told.
KINDS = {
    "missing_label": (ERROR, "label the photo, or take it off the list"),
    "unreadable_label": (ERROR, "write the label file again"),
    "missing_image": (ERROR, "bring the photo back, or take it off the list"),
    "unreadable_image": (ERROR, "replace the photo, or take it off the list"),
    "size_mismatch": (ERROR, "write the photo's own size, and boxes in its pixels"),
    "exif_rotation": (ERROR, "turn the boxes as EXIF turns the photo"),
    "part_box": (ERROR, "leave out the object: a <part> is none"),
    "zero_based": (ERROR, "count pixels from 1, as VOC does"),
    "one_based": (ERROR, "count pixels from 0"),
    "swapped_columns": (ERROR, "put the four numbers in their places"),
    "zero_area": (ERROR, "draw the box again, or leave it out"),
    "out_of_image": (ERROR, "cut the box to the photo"),
    "unknown_class": (ERROR, "rename it, leave it out, or add it to the class list"),
    "misspelt_class": (ERROR, "rename it, or name both in --classes if both are meant"),
    "duplicate_box": (ERROR, "keep one of them"),
    "twin_across_splits": (ERROR, "keep the photo in one split"),
    "near_twin_across_splits": (WARNING, "look at both; keep photos of one scene in one split"),
    "twin": (WARNING, "keep one of them"),
    "exif_unsure": (WARNING, "look whether the boxes fit the photo as it is seen"),
    "near_twin": (NOTE, "keep photos of one scene in one split"),
    "background": (NOTE, "nothing, if the photo really shows none of the classes"),
    "part_boxes": (NOTE, "nothing here; other programs may take them for objects"),
    "unlisted": (NOTE, "nothing, if they are left out on purpose"),
}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, named once.

    Raises:
        KeyError: `kind` is not of KINDS.
    """

    kind: str
    file: Path  # that must be changed, or looked at
    text: str  # what is wrong, and where in the file

    @property
    def level(self) -> str:
        """error, warning or note."""
        return KINDS[self.kind][0]

    @property
    def remedy(self) -> str:
        """What a person should do."""
        return KINDS[self.kind][1]

    def as_dict(self) -> dict:
        """The fault as plain data."""
        plain = {"kind": self.kind, "level": self.level, "file": str(self.file)}
        return plain | {"text": self.text, "remedy": self.remedy}
