from ssd.sources import find_sources


def test_find_sources(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.txt", "c.mp4"):
        (tmp_path / name).touch()
    found, faults = find_sources(
        [str(tmp_path), str(tmp_path / "*.jpg"), str(tmp_path / "notes.txt"), "gone.jpg"]
    )
    assert [p.name for p in found] == ["a.PNG", "b.jpg", "c.mp4", "notes.txt"]
    assert faults == ["gone.jpg: no image or video there"]
