from fractions import Fraction

import av
import numpy as np
import pytest

from ssd.media import Frame, VideoWriter, read_video, video_length, video_rate


def write(path, count=12, rate=Fraction(10), shape=(48, 64, 3)):
    with VideoWriter(path, rate) as writer:
        for i in range(count):
            writer.write(Frame(np.full(shape, 20 * i, np.uint8), i, float(i / rate)))
    return path


def test_round_trip_keeps_size_rate_count_and_times(tmp_path):
    path = write(tmp_path / "a.mp4")
    frames = list(read_video(path))
    assert len(frames) == video_length(path) == 12
    assert video_rate(path) == 10
    assert frames[0].image.shape == (48, 64, 3)
    assert [f.time_s for f in frames] == pytest.approx([i / 10 for i in range(12)])
    assert abs(int(frames[5].image.mean()) - 100) < 4


def test_plays_in_a_browser(tmp_path):
    path = write(tmp_path / "a.mp4", shape=(49, 65, 3))  # odd sides lose a row and a column
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.height, stream.width) == (48, 64)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # starts to play before it is loaded


def test_an_error_leaves_a_playable_file_and_no_frames_leave_none(tmp_path):
    def broken(path):
        with VideoWriter(path, Fraction(10)) as writer:
            writer.write(Frame(np.zeros((48, 64, 3), np.uint8), 0, 0.0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken(tmp_path / "a.mp4")
    assert len(list(read_video(tmp_path / "a.mp4"))) == 1
    with VideoWriter(tmp_path / "b.mp4", Fraction(10)):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_the_sample_clip(samples):
    assert sum(1 for _ in read_video(samples / "carphone.mp4")) == 50


@pytest.mark.parametrize(
    ("size", "kind"), [((48, 64), "yuv444p"), ((47, 65), "yuv444p"), ((48, 64), "yuv422p")]
)
def test_fuller_chroma_keeps_its_colours(tmp_path, size, kind):
    """Four fields of colour, looked at away from their edges; a swap of the chroma planes turns them."""
    height, width = size
    picture = np.zeros((height, width, 3), np.uint8)
    colours = {(0, 0): (200, 30, 30), (0, 1): (30, 180, 40), (1, 0): (40, 50, 210), (1, 1): (230, 220, 60)}
    for (y, x), colour in colours.items():
        picture[y * height // 2 :, x * width // 2 :][: height // 2 + 1, : width // 2 + 1] = colour
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = height, width, kind
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=kind)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames = list(read_video(tmp_path / "a.mkv"))
    assert [frame.image.shape for frame in frames] == [(height, width, 3)] * 3
    for (y, x), colour in colours.items():
        seen = frames[1].image[height // 4 + y * height // 2, width // 4 + x * width // 2]
        assert np.abs(seen.astype(int) - colour).max() <= 4, (colour, seen)


def test_bad_videos_are_named(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"a video must be readable.*a\.mp4"):
        list(read_video(tmp_path / "a.mp4"))
    with pytest.raises(ValueError, match=r"b\.mp4"):
        video_length(tmp_path / "b.mp4")


def test_a_video_that_breaks_off_is_named(samples, tmp_path):
    (tmp_path / "cut.mp4").write_bytes((samples / "carphone.mp4").read_bytes()[:20000])
    seen = []
    with pytest.raises(ValueError, match=r"cut\.mp4, which breaks off after \d+ of 50 frames"):
        seen.extend(read_video(tmp_path / "cut.mp4"))
    assert 0 < len(seen) < 50  # what comes before the break is not lost
