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
