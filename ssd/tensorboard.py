"""TensorBoard's event files of a run, written by tensorboardX, which needs no TensorFlow.

So they are the same on every backend of Keras. Scalars have the names of the columns of history.csv,
their step is the epoch.
"""

from pathlib import Path

from ssd.draw import draw_both
from ssd.images import load_image
from ssd.page import encode_jpeg, shrink
from ssd.records import Detections, Sample
from ssd.watcher import Watcher

FOLDER = "tensorboard"  # in the run folder
PHOTOS = 6  # validation photos with boxes, the same in every epoch
SCORE = 0.5  # detections below it are not drawn


class TensorBoard(Watcher):
    """Writes numbers and a few validation photos of each epoch."""

    _writer = None

    def run_started(self, folder: Path, epochs: int, past: list[dict]) -> None:
        from tensorboardX import SummaryWriter

        # An epoch that is done again after a kill replaces what was written of it.
        done = past[-1]["epoch"] if past else 0
        self._writer = SummaryWriter(str(folder / FOLDER), purge_step=done + 1)

    def epoch_ended(self, row: dict, samples: list[Sample], found: list[Detections]) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        numbers = {k: v for k, v in row.items() if k not in ("epoch", "stage") and v is not None}
        values = [Summary.Value(tag=key, simple_value=value) for key, value in numbers.items()]
        for i in _spread(len(samples)):
            photo = _photo(samples[i], found[i])
            values.append(Summary.Value(tag=f"photos/{i + 1} {samples[i].image_id}", image=photo))
        self._writer.file_writer.add_summary(Summary(value=values), row["epoch"])
        self._writer.flush()

    def __exit__(self, *_: object) -> None:
        if self._writer:
            self._writer.close()


def _spread(count: int) -> list[int]:
    """PHOTOS places, as even as may be over a split, of which neighbours are often alike."""
    return sorted({i * count // PHOTOS for i in range(PHOTOS)}) if count else []


def _photo(sample: Sample, found: Detections) -> object:
    from tensorboardX.proto.summary_pb2 import Summary

    image = draw_both(shrink(load_image(sample.path)), found[found.scores >= SCORE], sample)
    height, width = image.shape[:2]
    return Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encode_jpeg(image))
