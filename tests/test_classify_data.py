"""Class folders, crops and scores: what is read, what is refused, and scikit-learn's numbers."""

import shutil

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from ssd.classify.data import divide, load_pixels, pixels_digest, read_folders, warp
from ssd.classify.scores import report_text, score, worst
from ssd.cli import main
from ssd.datasets.crops import cut_boxes, write_crops
from ssd.images import load_image, save_image
from ssd.records import Sample


def write_classes(root, counts: dict[str, int], size=(20, 24)):
    """Pictures whose mean grey tells the class."""
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            save_image(root / name / f"{i}.png", np.full((*size, 3), 40 * label + i, np.uint8))
    return root


def test_folders_are_read_in_order(tmp_path):
    root = write_classes(tmp_path, {"dog": 2, "cat": 3})
    (root / "cat" / "notes.txt").write_text("not a picture, by its name")
    (root / ".cache").mkdir()
    images = read_folders(root)
    assert images.class_names == ("cat", "dog")
    assert images.labels.tolist() == [0, 0, 0, 1, 1]
    assert images.counts() == {"cat": 3, "dog": 2}
    assert images.names[0].endswith("cat/0.png")
    # Labels of another split index the classes that are given.
    assert read_folders(root, ("dog", "cat")).labels.tolist() == [1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: (root / "Cat").mkdir(), r"differ by more than case\. Received: Cat and cat"),
        (lambda root: (root / "empty").mkdir(), r"a class must have images\. Received: none in .*empty"),
        (lambda root: (root / "dog" / "1.png").unlink(), r"2 images or more\. Received: 1 in .*dog"),
        (lambda root: shutil.rmtree(root / "dog"), "a folder a class, two or more"),
    ],
)
def test_folders_that_are_wrong_are_named(tmp_path, change, words):
    root = write_classes(tmp_path, {"cat": 2, "dog": 2})
    change(root)
    with pytest.raises(ValueError, match=words):
        read_folders(root)


def test_classes_of_another_split_must_be_the_same(tmp_path):
    root = write_classes(tmp_path, {"cat": 2, "dog": 2})
    with pytest.raises(ValueError, match=r"its folder\. Received: no 'Dog'"):
        read_folders(root, ("Dog", "cat"))
    with pytest.raises(ValueError, match=r"classes must be cat, dog\. Received: 'owl'"):
        read_folders(write_classes(tmp_path / "b", {"cat": 1, "dog": 1, "owl": 1}), ("cat", "dog"), 1)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_folders(tmp_path / "nowhere")


def test_a_share_of_every_class_is_held_back(tmp_path):
    images = read_folders(write_classes(tmp_path, {"cat": 10, "dog": 2}))
    train, val = divide(images, 0.2, seed=1)
    assert val.counts() == {"cat": 2, "dog": 1}
    assert sorted(train.names + val.names) == sorted(images.names)
    assert divide(images, 0.2, seed=1)[1].names == val.names
    assert divide(images, 0.9, seed=1)[0].counts() == {"cat": 1, "dog": 1}
    with pytest.raises(ValueError, match="between 0 and 1"):
        divide(images, 1.0, seed=1)


def test_pictures_are_decoded_once_to_the_size(tmp_path):
    images = read_folders(write_classes(tmp_path, {"cat": 2, "dog": 2}))
    pixels = load_pixels(images, (8, 10))
    assert pixels.shape == (4, 8, 10, 3)
    assert pixels[:, 0, 0, 0].tolist() == [0, 1, 40, 41]
    assert pixels_digest(images, pixels) != pixels_digest(images, pixels[::-1])
    assert warp(pixels[0], (16, 20)).shape == (16, 20, 3)
    (tmp_path / "dog" / "1.jpg").write_text("text")
    with pytest.raises(ValueError, match=r"readable by OpenCV\. Received: .*1\.jpg"):
        load_pixels(read_folders(tmp_path), (8, 8))
    with pytest.raises(ValueError, match="decoded pictures may take"):
        load_pixels(images.subset(np.zeros(3000, int)), (1024, 1024))


def test_scores_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    names = ("a", "b", "c", "never", "unseen")
    true = rng.choice([0, 1, 2, 4], 500, p=[0.7, 0.2, 0.05, 0.05])
    predicted = np.where(rng.random(500) < 0.6, true, rng.integers(0, 4, 500))
    found = score(true, predicted, names).as_dict()
    labels = list(range(5))
    confusion = metrics.confusion_matrix(true, predicted, labels=labels)
    assert found["confusion"] == confusion.tolist()
    wanted = metrics.classification_report(
        true, predicted, labels=labels, target_names=names, output_dict=True, zero_division=0
    )
    # With classes that never occur scikit-learn says "micro avg" or "accuracy", which are one here.
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(true, predicted), abs=1e-15)
    for name in (*names, "macro avg", "weighted avg"):
        assert found["report"][name] == pytest.approx(wanted[name], abs=1e-12)


def test_scores_by_hand():
    scores = score(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), ("cat", "dog"))
    assert scores.confusion.tolist() == [[2, 1], [0, 1]]
    assert scores.accuracy == 0.75
    assert scores.rows[0] == ("cat", 1.0, pytest.approx(2 / 3), pytest.approx(0.8), 3)
    text = report_text(scores)
    assert "cat    1.0000    0.6667    0.8000         3" in text
    assert "accuracy                        0.7500         4" in text
    with pytest.raises(ValueError, match="a prediction an image"):
        score(np.zeros(0), np.zeros(0), ("cat", "dog"))


def test_the_surest_errors_come_first():
    shares = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    assert worst(np.array([0, 0, 0, 1]), shares, 5) == [2, 1]
    assert worst(np.array([0, 1, 1, 1]), shares, 5) == []


def test_cut_boxes_add_a_margin_within_the_photo(tmp_path):
    boxes = np.array([[0, 0, 0.5, 0.5], [0.2, 0.2, 0.3, 0.3], [0.5, 0.5, 1, 1]], np.float32)
    difficult = np.array([False, False, True])
    sample = Sample("a", tmp_path, 100, 200, boxes, np.zeros(3, int), difficult)
    assert cut_boxes(sample, 0.1, 10) == [(0, (0, 0, 110, 55)), (1, (38, 19, 62, 31))]
    assert cut_boxes(sample, 0.0, 11) == [(0, (0, 0, 100, 50))]


def test_crops_become_class_folders(mini_voc, tmp_path):
    out = tmp_path / "crops"
    (mini_voc / "ImageSets/Main/val.txt").write_text("0\n1\n3\n")
    counts = write_crops(mini_voc, out, margin=0.0)
    assert set(counts) == {"train", "val"}
    images = read_folders(out / "train", least=1)
    assert images.class_names == ("blue", "red")
    assert images.counts() == counts["train"]
    for name, label in zip(images.names, images.labels, strict=True):
        picture = load_image(name)
        assert picture.shape == (60, 60, 3)
        assert picture[30, 30].argmax() == (2 if images.class_names[label] == "blue" else 0)
    with pytest.raises(FileExistsError, match="new folder"):
        write_crops(mini_voc, out)


def test_crops_that_cannot_be_are_named(mini_voc, tmp_path, write_xml):
    out = tmp_path / "crops"
    with pytest.raises(ValueError, match=r"every class must have an object of 90 pixels"):
        write_crops(mini_voc, out, least=90)
    assert list(tmp_path.glob("*crops*")) == []
    cv2.imwrite(str(mini_voc / "JPEGImages/9.png"), np.zeros((120, 160, 3), np.uint8))
    boxes = [("Red", (1, 1, 60, 60), False), ("red", (1, 1, 60, 60), False)]
    write_xml(mini_voc / "Annotations/9.xml", 160, 120, boxes)
    (mini_voc / "ImageSets/Main/odd.txt").write_text("9\n")
    with pytest.raises(ValueError, match="differ by more than case"):
        write_crops(mini_voc, out, ("odd",))
    write_xml(mini_voc / "Annotations/9.xml", 160, 120, [("../up", (1, 1, 60, 60), False)])
    with pytest.raises(ValueError, match=r"a name that a folder can have\. Received: '\.\./up'"):
        write_crops(mini_voc, out, ("odd",))


def test_the_command_cuts_crops(mini_voc, tmp_path):
    out = tmp_path / "crops"
    command = ["data", "crops", str(mini_voc), "--out", str(out)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1
    assert "Received: none of 'red' in split 'val'" in done.output
    (mini_voc / "ImageSets/Main/val.txt").write_text("0\n1\n3\n")
    done = CliRunner().invoke(main, [*command, "--margin", "0"])
    assert done.exit_code == 0, done.output
    assert f"crops -> {out}" in done.output
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1
    assert "error: crops must go to a new folder" in done.output
    assert sorted(p.name for p in out.iterdir()) == ["train", "val"]
