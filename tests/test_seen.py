"""What a person sees of a training: history, live table, TensorBoard and the page of a run."""

import base64
import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from defusedxml.ElementTree import fromstring
from rich.console import Console

from ssd.cli import main
from ssd.draw import PREDICTED, TRUE, draw_both
from ssd.history import TSV, best_row, class_scores, read_history, read_rows, write_history
from ssd.metrics.voc import count_faults
from ssd.outcome import data_to_json, detections_to_json, read_data, read_detections
from ssd.page import rounded
from ssd.progress import LiveTable, Pace
from ssd.records import Detections, Sample
from ssd.report import report_html, write_report
from ssd.watcher import ReportKeeper, Watcher, Watchers

NAMES = ("a <b>&\"'", "$x^2$ 猫")


def _row(epoch, stage, score, **changes):
    row = {"epoch": epoch, "stage": f"layers{stage}", "learning_rate": 5e-4 / epoch, "loss": 6.5 / epoch}
    row |= {"confidence_loss": 4.5 / epoch, "location_loss": 2 / epoch, "acc": 0.99, "matched_acc": 0.5}
    row |= {
        "val_loss": 7 / epoch,
        "val_acc": 0.98,
        "val_matched_acc": 0.25,
        "val_mAP": score,
        "seconds": 60.5,
    }
    row |= {"seconds_a_step": 1.25 * stage, "images_per_s": 8.0, "stage_number": stage}
    row |= {"trainable": 1000 * stage, "frozen": 5000 - 1000 * stage, f"AP_{NAMES[0]}": score}
    return row | {f"AP_{NAMES[1]}": None} | changes


@pytest.fixture
def samples(mini_voc):
    """Four photos: a true box of class 0 each, in the left half; a difficult one of class 1 in the last."""
    rows = []
    for i in range(4):
        boxes, labels, difficult = [[0, 0, 0.5, 1]], [0], [False]
        if i == 3:
            boxes, labels, difficult = [*boxes, [0.5, 0, 1, 0.5]], [0, 1], [False, True]
        path = mini_voc / f"JPEGImages/{i}.png"
        rows.append(
            Sample(
                str(i),
                path,
                120,
                160,
                np.float32(boxes),
                np.array(labels, np.int64),
                np.array(difficult, bool),
            )
        )
    return rows


@pytest.fixture
def found():
    """Right; nothing; right, again and in the wrong half; the difficult one and a weak one."""

    def of(boxes, labels, scores):
        return Detections(boxes, labels, scores, NAMES, 120, 160)

    left, right = [0, 0, 0.5, 1], [0.5, 0, 1, 1]
    return [
        of([left], [0], [0.9]),
        of([], [], []),
        of([left, left, right], [0, 0, 0], [0.9, 0.8, 0.7]),
        of([[0.5, 0, 1, 0.5], left], [1, 0], [0.9, 0.4]),
    ]


@pytest.fixture
def folder(tmp_path, samples, found):
    """A run folder as training leaves it, of four epochs in two stages; the third is the best."""
    path = tmp_path / "run"
    path.mkdir()
    write_history(path, [_row(1, 1, 0.0), _row(2, 1, 0.25), _row(3, 2, 0.5), _row(4, 2, 0.5)])
    (path / "data.json").write_text(data_to_json(NAMES, {"train": samples[:1], "val": samples}, "val"))
    (path / "detections.json").write_text(detections_to_json(samples, found))
    stages = [{"layers": f"layers{i}", "optimizer": "sgd", "schedule": "cosine"} for i in (1, 2)]
    (path / "run.json").write_text(json.dumps({"val_split": "val", "seed": 0, "stages": stages}))
    (path / "recipe.toml").write_text('front = "<int8>"\n')
    return path


class _Page(HTMLParser):
    """Tables by id as rows of texts and exact values; the addresses that a page refers to."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.addresses, self.tags, self.words = {}, [], set(), []
        self._rows, self._open = None, False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.add(tag)
        self.addresses += [
            v for k, v in attributes.items() if k in ("src", "href", "srcset", "data", "action")
        ]
        if tag == "table":
            self._rows = self.tables.setdefault(attributes.get("id"), [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
            self._open = True
        elif tag == "data" and self._open:
            self._rows[-1][-1] = attributes["value"]
            self._open = False

    def handle_endtag(self, tag):
        self._open = self._open and tag not in ("td", "th")

    def handle_data(self, data):
        self.words.append(data)
        if self._open:
            self._rows[-1][-1] += data.strip()


def _check_self_contained(text):
    page = _Page(text)
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "base"}
    assert not re.search(r"https?:|url\(|@import", text)
    for address in page.addresses:
        kind, data = address.split(";base64,")
        data = base64.b64decode(data, validate=True)
        if kind == "data:image/svg+xml":
            links = [
                v for node in fromstring(data).iter() for k, v in node.attrib.items() if k.endswith("href")
            ]
            assert all(link.startswith("#") for link in links)
        else:
            assert data[:2] == b"\xff\xd8"
    return page


def _check_history(page, folder):
    """The page has every number of history.csv, to the last digit."""
    rows = [list(row.values()) for row in read_rows(folder)]
    table = page.tables["history"]
    assert table[0] == list(read_rows(folder)[0])
    for shown, row in zip(table[1:], rows, strict=True):
        assert [_number(value) for value in shown] == [_number(value or "none") for value in row]


def _number(text):
    try:
        return float(text)
    except ValueError:
        return text


def test_history_round_trip_and_its_copy(tmp_path):
    rows = [_row(1, 1, 0.1 + 0.2), _row(2, 1, 1 / 3)]
    write_history(tmp_path, rows)
    assert read_history(tmp_path) == rows
    assert read_history(tmp_path, 1, 2) == rows[1:]
    assert best_row(rows) is rows[1]
    assert class_scores(rows[1]) == {NAMES[0]: 1 / 3, NAMES[1]: None}
    with open(tmp_path / "history.tsv", newline="", encoding="utf-8") as file:
        copy = list(csv.reader(file, "excel-tab"))
    assert copy[0] == list(TSV)
    assert copy[2] == [str(rows[1][key]) for key in TSV]
    assert {path.name for path in tmp_path.iterdir()} == {"history.csv", "history.tsv"}


@pytest.mark.parametrize(
    "text", ["epoch,loss\nx,1\n", "loss\n1\n", "epoch,loss\n1\n", "epoch\n1,2\n", "\0\n\0"]
)
def test_a_damaged_history_is_named(tmp_path, text):
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(ValueError, match=r"history\.csv must have a row an epoch. Received: .*history\.csv"):
        read_rows(tmp_path)


def test_truth_and_detections_come_back(folder, samples, found):
    data = read_data(folder)
    assert data.class_names == NAMES
    assert data.splits["val"]["classes"][NAMES[1]] == {"images": 1, "boxes": 1, "difficult": 1}
    assert data.splits["val"]["images"] == 4
    for sample, read in zip(samples, data.samples, strict=True):
        assert (read.image_id, read.path, read.height) == (sample.image_id, sample.path, 120)
        assert np.allclose(read.boxes, sample.boxes, atol=1e-4)
        assert (read.difficult == sample.difficult).all()
    for one, read in zip(found, read_detections(folder, data), strict=True):
        assert np.allclose(read.boxes, one.boxes, atol=1e-4)
        assert np.allclose(read.scores, one.scores, atol=1e-4)
        assert (read.labels == one.labels).all()


def test_faults_of_a_photo(samples, found):
    # Found; missed; a second box on the same object and one beside it; a difficult one and a weak hit.
    assert [count_faults(*pair) for pair in zip(samples, found, strict=True)] == [
        (0, 0),
        (1, 0),
        (0, 2),
        (1, 0),
    ]
    assert count_faults(samples[3], found[3], score_threshold=0.3) == (0, 0)
    assert count_faults(samples[1], found[3][:0]) == (1, 0)


def test_truth_lies_below_what_is_found(samples, found):
    canvas = draw_both(np.full((240, 320, 3), 7, np.uint8), found[3][:1], samples[3])
    assert tuple(canvas[60, 160]) == PREDICTED  # left edge of the found box, over that of the true one
    assert tuple(canvas[200, 0]) == TRUE
    assert tuple(canvas[230, 240]) == (7, 7, 7)


def test_the_page_of_a_run(folder):
    html = report_html(folder)
    page = _check_self_contained(html)
    _check_history(page, folder)
    assert "<b>&" not in html  # names are text, not markup
    assert "&lt;int8&gt;" in html
    assert page.tables["stages"][1:] == [
        ["1", "layers1", "1 to 2", "sgd, cosine", "1000", "4000", "1.25", "8.0", "0.25", "3.5"],
        ["2", "layers2", "3 to 4", "sgd, cosine", "2000", "3000", "2.5", "8.0", "0.5", "1.75"],
    ]
    assert page.tables["scores"][1:] == [[NAMES[0], "0.5", "4", "4"], [NAMES[1], "none", "1", "1"]]
    words = " ".join(page.words)
    assert "best VOC07 mAP on split val, epoch 3" in words
    assert "is near 1 from the first epochs" in words
    # Two faults before one; of equal ones the first before the next; the right one is not shown.
    assert re.findall(r"(\d)\.png: (\d) missed, (\d) false", words) == [
        ("2", "0", "2"),
        ("1", "1", "0"),
        ("3", "1", "0"),
    ]
    assert report_html(folder) == html


def test_a_page_outlives_its_photos_and_a_run_may_be_young(folder, samples):
    samples[2].path.unlink()
    write_history(folder, [_row(1, 1, 0.0)])
    page = _check_self_contained(report_html(folder))
    assert "2.png: 0 missed, 2 false (the photo is not at its place any more)" in " ".join(page.words)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("history.csv", "", "a report needs an epoch that is done"),
        ("history.csv", "epoch,loss\n1,2\n", "history.csv must have the columns"),
        ("history.csv", "epoch,stage,loss\n1,a,x\n", "loss in history.csv must be a number. Received: 'x'"),
        ("run.json", "[]", "run.json must hold the settings of a run"),
        ("data.json", "{}", "data.json must be as `ssd train` writes it"),
        ("data.json", None, "a run folder must hold data.json"),
        ("detections.json", "[", "detections.json must be JSON"),
        ("detections.json", "[]", "other photos than in data.json"),
        ("detections.json", '[{"source": 1}]', "other photos than in data.json"),
    ],
)
def test_a_damaged_run_folder_is_one_line(folder, name, text, message):
    (folder / name).unlink()
    if text is not None:
        (folder / name).write_text(text)
    done = CliRunner().invoke(main, ["report", str(folder)])
    assert done.exit_code == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (folder / "report.html").exists()


def test_a_box_that_is_none_is_refused(folder):
    text = (folder / "detections.json").read_text()
    (folder / "detections.json").write_text(text.replace("[0.0,0.0,80.0,120.0]", "[0.0,NaN,80.0,120.0]", 1))
    with pytest.raises(ValueError, match=r"detections\.json must be as .*a size or box that is none"):
        write_report(folder)


def test_the_report_keeper_ends_no_training(folder, tmp_path):
    lines = []
    keeper = ReportKeeper(lines.append)
    keeper.run_started(folder, 4, [])
    keeper.run_ended()
    assert not (folder / "report.html").exists()  # nothing is done yet
    keeper.epoch_ended({}, [], [])
    assert not (folder / "report.html").exists()  # epochs come too fast for it
    keeper.run_ended()
    assert (folder / "report.html").exists()
    (folder / "data.json").write_text("{}")
    keeper.run_ended()
    assert "no report could be written: data.json must be" in lines[0]


def test_the_time_left_follows_from_the_steps():
    now = [0.0]
    pace = Pace(lambda: now[0])
    pace.epochs = 3
    pace.start_epoch(1, 3, 10, 0, 8)
    assert pace.time_left() is None
    for _ in range(5):
        now[0] += 2
        pace.step()
    # Five steps of 2 s, and two epochs of ten; no validation seen yet.
    assert pace.time_left() == (10, 50)
    assert pace.images_per_s == 4
    for _ in range(5):
        now[0] += 2
        pace.step()
    now[0] += 7  # validation
    pace.start_epoch(2, 3, 10, 6, 8)  # it went on in the middle of an epoch
    now[0] += 1
    pace.step()
    # Three steps of 1 s, 7 s, and an epoch of 10 s and 7 s.
    assert pace.time_left() == (3, 3 + 7 + 17)


def test_the_table_shows_what_goes_on():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=90, color_system=None)
    now = [0.0]
    with LiveTable(console, lambda: now[0]) as table:
        table.run_started(Path(), 12, [{"epoch": 1, "val_mAP": 0.25}])
        table.stage_started(1, 2, "bridge", (1234567, 89))
        table.epoch_started(2, 10, 4, 0, 8)
        now[0] += 4
        table.batch_ended({"learning_rate": 5e-4, "loss": 3.25})
        assert list(table.track(range(3), "features", 3)) == [0, 1, 2]
        table.epoch_ended({"epoch": 2, "val_mAP": 0.5}, [], [])
        table.epoch_started(3, 10, 4, 0, 8)
    text = screen.getvalue()
    for words in (
        "stage 1 of 2: bridge, 1,234,567 trained, 89 frozen",
        "2 of 12 (this stage ends with 10)",
        "batch 1 of 4",
        "0:12 of this epoch, about 2:52 of the run",
        "images/s       2.0",
        "learning rate  5.00e-04",
        "loss           3.2500",
        "0.2500 in epoch 1",
        "features",
        "0.5000 in epoch 2",
    ):
        assert words in text, words
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back


def test_ctrl_c_leaves_a_clean_terminal():
    code = """
import time
from rich.console import Console
from ssd.progress import LiveTable
with LiveTable(Console(stderr=True)) as table:
    table.stage_started(1, 1, "all", (1, 2))
    table.say("a line [not markup] " + 200 * "x")
    table.epoch_started(1, 1, 9, 0, 1)
    table.say("ready")
    time.sleep(60)
"""
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "30"}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    seen = _read_until(master, b"ready")
    process.send_signal(signal.SIGINT)
    seen += _read_until(master, b"KeyboardInterrupt")
    os.close(master)
    assert process.wait(20) != 0
    assert b"a line [not markup] " + 200 * b"x" in seen  # no line break of ours in it
    end = seen[seen.rindex(b"ready") :]
    drawn = end.count(b"\xe2\x95\xad")  # corners of tables
    assert drawn
    assert end.rindex(b"\x1b[?25h") > end.rindex(b"\xe2\x95\xaf")  # the cursor is back after the last one
    after = end[end.rindex(b"\xe2\x95\xaf") :]
    assert after.count(b"\x1b[1A\x1b[2K") == 7  # every line of it is wiped: five rows and two edges


def _read_until(file, words):
    seen, deadline = b"", time.monotonic() + 30
    while words not in seen and time.monotonic() < deadline:
        try:
            seen += os.read(file, 65536)
        except OSError:  # the other side has ended
            break
    return seen


def test_several_watchers_hear_everything_and_all_are_closed():
    class Ear(Watcher):
        def __init__(self):
            self.heard = []

        def __exit__(self, *what):
            self.heard.append(what[0])

    methods = [name for name in vars(Watcher) if not name.startswith("_")]
    assert {name for name in vars(Watchers) if not name.startswith("_")} == set(methods)
    for name in methods:
        setattr(Ear, name, lambda self, *args, name=name: self.heard.append((name, args)))
    ears = [Ear(), Ear()]

    def run():
        with Watchers(ears) as watcher:
            for name in methods:
                getattr(watcher, name)(*range(vars(Watcher)[name].__code__.co_argcount - 1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert ears[0].heard == ears[1].heard
    assert [one[0] for one in ears[0].heard[:-1]] == methods
    assert ears[0].heard[-1] is KeyboardInterrupt


def _events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def test_tensorboard_replaces_an_epoch_that_is_done_again(tmp_path, samples, found):
    pytest.importorskip("tensorboardX", reason="needs the extra 'train'")
    from ssd.tensorboard import TensorBoard

    for past, losses in (([], [(1, 0.5), (2, 0.25)]), ([{"epoch": 1}], [(2, 0.125)])):
        with TensorBoard() as board:
            board.run_started(tmp_path, 2, past)
            for epoch, loss in losses:
                board.epoch_ended(_row(epoch, 1, 0.5, loss=loss), samples, found)
        time.sleep(1.1)  # the name of an event file has seconds in it
    events = _events(tmp_path / "tensorboard")
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 0.5), (2, 0.125)]
    assert f"AP_{NAMES[0]}" in events.Tags()["scalars"]
    assert f"AP_{NAMES[1]}" not in events.Tags()["scalars"]  # no true box, no number
    assert events.Tags()["images"] == ["photos/1 0", "photos/2 1", "photos/3 2", "photos/4 3"]
    assert [(e.step, e.width, e.height) for e in events.Images("photos/1 0")] == [
        (1, 480, 360),
        (2, 480, 360),
    ]


def test_tensorboard_needs_no_tensorflow(tmp_path):
    code = (
        "import sys; sys.modules['tensorflow'] = None;"
        "from pathlib import Path; from ssd.tensorboard import TensorBoard; board = TensorBoard();"
        f"board.run_started(Path({str(tmp_path)!r}), 1, []);"
        "board.epoch_ended({'epoch': 1, 'loss': 2.5}, [], []); board.__exit__()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert _events(tmp_path / "tensorboard").Scalars("loss")[0].value == 2.5


def test_numbers_for_the_eye():
    assert [rounded(v) for v in (1234567, 0.5, 0.0, 5e-4, 123.456)] == [
        "1,234,567",
        "0.5000",
        "0.0000",
        "0.0005",
        "123.5",
    ]
    assert rounded(4.28e-5) == "4.28e-05"


@pytest.fixture
def start(tmp_path):
    """A checkpoint to start from, so that a stage may train a few layers only."""
    pytest.importorskip("keras", reason="needs the extra 'train'")
    from ssd.card import ModelCard
    from ssd.checkpoint import save_checkpoint
    from ssd.model import build_model
    from ssd.spec import SPECS

    path = tmp_path / "start.weights.h5"
    save_checkpoint(
        path, build_model(SPECS["ssd300"], 2), ModelCard("start", "ssd300", "vgg16", ("blue", "red"))
    )
    return path


def test_a_whole_run_is_seen_everywhere(mini_voc, start, tmp_path):
    run = tmp_path / "run"
    options = ["--stages", "heads:2", "--front", "f32", "--cache-views", "1", "--batch-size", "1"]
    done = CliRunner().invoke(
        main, ["train", str(mini_voc), "--out", str(run), "--init", str(start), *options]
    )
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output  # no terminal, no table
    assert f"report: {run / 'report.html'}" in done.stdout

    rows = read_history(run)
    assert [(row["epoch"], row["stage"], row["stage_number"]) for row in rows] == [
        (1, "heads", 1),
        (2, "heads", 1),
    ]
    # The heads are 3x3 kernels from (512, 1024, 512, 256, 256, 256) channels
    # to (4, 6, 6, 6, 4, 4) anchors of 3 classes and 4 sides.
    heads = sum(
        (9 * channels + 1) * anchors * 7
        for channels, anchors in zip((512, 1024, 512, 256, 256, 256), (4, 6, 6, 6, 4, 4), strict=True)
    )
    assert [row["trainable"] for row in rows] == [heads, heads]
    assert len({row["trainable"] + row["frozen"] for row in rows}) == 1
    for row in rows:
        assert row["AP_red"] is None  # validation holds a blue square alone
        assert row["AP_blue"] == row["val_mAP"]
        # Batches of one: the median of three steps is one of them, and images/s is of the last two.
        assert 0 < row["seconds_a_step"] < row["seconds"] + 0.1
        assert 0 < 2 / row["images_per_s"] < row["seconds"] + 0.1

    events = _events(run / "tensorboard")
    assert set(events.Tags()["scalars"]) == set(rows[0]) - {"epoch", "stage", "AP_red"}
    for key in events.Tags()["scalars"]:
        written = [(event.step, event.value) for event in events.Scalars(key)]
        assert written == [(row["epoch"], pytest.approx(row[key], rel=1e-6)) for row in rows], key
    assert [event.step for event in events.Images("photos/1 3")] == [1, 2]

    page = _check_self_contained((run / "report.html").read_text("utf-8"))
    _check_history(page, run)
    data = read_data(run)
    assert data.splits["train"]["classes"]["red"] == {"images": 2, "boxes": 2, "difficult": 0}
    assert [sample.path.name for sample in data.samples] == ["3.png"]
    assert len(read_detections(run, data)) == 1
    assert not list(run.rglob(".part-*"))

    # A finished run does nothing more; its page can be made again, here or elsewhere.
    (run / "report.html").unlink()
    again = CliRunner().invoke(main, ["train", "--resume", str(run), "--no-tensorboard"])
    assert again.exit_code == 0, again.output
    assert read_history(run) == rows
    told = CliRunner().invoke(main, ["report", str(run), "--out", str(tmp_path / "page.html")])
    assert told.exit_code == 0
    assert (tmp_path / "page.html").read_bytes() == (run / "report.html").read_bytes()


def test_weights_that_break_in_the_last_step_are_not_kept(mini_voc, start, tmp_path):
    options = {"optimizer": "sgd", "schedule": "constant", "clip_norm": 0.0, "cache_views": 1}
    from ssd.run import Settings
    from ssd.stages import Stage
    from ssd.train import train

    # A rate at which the first step leaves the range of float32, while its own loss is still finite.
    stage = Stage("heads", 1, 3e38, **options)
    settings = Settings(
        (str(mini_voc),), ("blue", "red"), (stage,), batch_size=2, front="f32", init=str(start)
    )
    with pytest.raises(ValueError, match=r"every weight must be finite.* at batch 1 of 1 in epoch 1.*\.png"):
        train(settings, tmp_path / "run", lambda line: None)
    assert not (tmp_path / "run/state.npz").exists()
    assert not (tmp_path / "run/history.csv").exists()
    assert not list((tmp_path / "run/checkpoints").iterdir())
