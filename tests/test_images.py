import struct
import zlib

import cv2
import numpy as np
import pytest

from ssd.images import decode_image, load_image, preprocess, save_image
from ssd.spec import PREPROCESSING

RED, BLUE = (255, 0, 0), (0, 0, 255)  # RGB


def picture(height=40, width=60):
    """Left half red, right half blue."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2], image[:, width // 2 :] = RED, BLUE
    return image


def png(header: bytes, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file from its IHDR content, raw rows and further chunks."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = [chunk(b"IHDR", header), *(chunk(*c) for c in chunks), chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def test_round_trip(tmp_path):
    save_image(tmp_path / "a.png", picture())
    assert (load_image(tmp_path / "a.png") == picture()).all()
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]  # nothing is left beside it


def test_exif_rotation_is_applied(tmp_path):
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(picture(), cv2.COLOR_RGB2BGR))
    assert ok
    # Orientation 6: turn by 90 degrees clockwise to see it upright.
    tiff = b"MM\0*" + struct.pack(">IHHHIHH", 8, 1, 0x0112, 3, 1, 6, 0) + struct.pack(">I", 0)
    exif = b"Exif\0\0" + tiff
    data = data.tobytes()
    (tmp_path / "a.jpg").write_bytes(
        data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    )
    image = load_image(tmp_path / "a.jpg")
    assert image.shape == (60, 40, 3)
    assert image[5, 20, 0] > 200  # the left half, red, is now on top
    assert image[55, 20, 2] > 200


def test_grey_and_16_bit(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((4, 5), 200, np.uint8))
    assert load_image(tmp_path / "grey.png")[0, 0].tolist() == [200, 200, 200]
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((4, 5, 3), 200 * 256, np.uint16))
    assert load_image(tmp_path / "deep.png")[0, 0].tolist() == [200, 200, 200]


def test_palette_and_alpha():
    palette = png(struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0), b"\0\0\1", (b"PLTE", bytes([*RED, *BLUE])))
    assert decode_image(palette).tolist() == [[list(RED), list(BLUE)]]
    alpha = png(struct.pack(">IIBBBBB", 2, 1, 8, 6, 0, 0, 0), b"\0" + bytes([*RED, 255, *BLUE, 0]))
    assert decode_image(alpha).tolist() == [[list(RED), [255, 255, 255]]]  # clear is white


def test_a_bomb_is_refused_before_it_is_unpacked():
    bomb = png(struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0), b"\0" * 100)
    with pytest.raises(ValueError, match=r"a picture must be readable.*bomb\.png"):
        decode_image(bomb, "bomb.png")


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_named(tmp_path, content):
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.jpg"):
        load_image(tmp_path / "x.jpg")


def test_a_photo_that_breaks_off_is_named(samples):
    data = (samples / "astronaut.jpg").read_bytes()
    with pytest.raises(ValueError, match=r"readable.*a\.jpg"):
        decode_image(data[:40000], "a.jpg")


def test_save_refuses_an_unknown_suffix(tmp_path):
    with pytest.raises(ValueError, match="suffix"):
        save_image(tmp_path / "a.xyz", picture())
    assert list(tmp_path.iterdir()) == []


def test_preprocess_by_hand():
    image = np.full((50, 80, 3), (200, 100, 50), np.uint8)  # RGB
    vgg = preprocess(image, 300, PREPROCESSING["vgg16"])
    assert vgg.shape == (300, 300, 3)
    assert vgg.dtype == np.float32
    assert vgg[7, 9].tolist() == [50 - 104, 100 - 117, 200 - 123]  # BGR minus mean
    inception = preprocess(image, 300, PREPROCESSING["inception_v3"])
    assert np.allclose(inception[7, 9], [200 / 127.5 - 1, 100 / 127.5 - 1, 50 / 127.5 - 1], atol=1e-6)
