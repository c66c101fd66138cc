"""A file or folder gets its name when it is complete."""

import pytest

from ssd.beside import replace_text, replacing


def half(path, error):
    """Begin a file and fail."""
    with replacing(path) as beside:
        beside.write_text("half")
        raise error


def half_folder(path):
    """Begin a folder and fail."""
    with replacing(path) as beside:
        beside.mkdir()
        (beside / "graph").write_text("half")
        raise OSError("disk full")


def test_a_file_gets_its_name_when_the_block_ends(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with replacing(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_error_the_old_file_stands_alone(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(error):
        half(path, error)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_that_fails_is_removed_and_what_an_earlier_death_left_too(tmp_path):
    left = tmp_path / ".part-model"
    left.mkdir()
    (left / "stale").write_text("from a process that was killed")
    with pytest.raises(OSError, match="disk full"):
        half_folder(tmp_path / "model")
    assert not list(tmp_path.iterdir())
    with replacing(tmp_path / "model") as beside:
        assert not beside.exists()
        beside.mkdir()
        (beside / "graph").write_text("whole")
    assert (tmp_path / "model/graph").read_text() == "whole"


def test_what_stands_beside_as_a_link_to_a_folder_costs_the_folder_nothing(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/photo").write_text("x")
    (tmp_path / ".part-model").symlink_to(tmp_path / "precious", target_is_directory=True)
    with replacing(tmp_path / "model") as beside:
        beside.mkdir()
    assert (tmp_path / "precious/photo").read_text() == "x"
    assert (tmp_path / "model").is_dir()
    assert not (tmp_path / "model").is_symlink()


def test_text_keeps_its_line_ends_and_letters(tmp_path):
    replace_text(tmp_path / "é.txt", "Kühe\r\n牛\n")
    assert (tmp_path / "é.txt").read_bytes() == "Kühe\r\n牛\n".encode()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        replace_text(tmp_path / "nowhere/a.txt", "x")
