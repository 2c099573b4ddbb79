"""Folders of photographs as people have them: what counts as a photograph, what is followed, what is said."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.test_photos import colours
from wallcheck.data import PhotoFolder
from wallcheck.photos import PhotoNotice, class_folders, find_photos, printable, read_photo


def photograph(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours(8, 8)).save(path, "PNG")
    return path


def names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in find_photos(folder).paths]


def test_hidden_files_and_folders_do_not_count(tmp_path):
    photograph(tmp_path / "photos" / "a.png")
    photograph(tmp_path / "photos" / ".ipynb_checkpoints" / "a-checkpoint.png")
    (tmp_path / "photos" / "._a.png").write_bytes(b"\0\5\x16\7")
    assert find_photos(tmp_path / "photos") == ([tmp_path / "photos" / "a.png"], {})
    assert class_folders(tmp_path / "photos") == []


def test_every_type_that_pillow_decodes_is_found_and_the_rest_is_counted(tmp_path):
    for name in ("a.gif", "b.PPM", "c.jfif", "d.JPG", "e.webp", "f.jp2", "g.tga", "album.jpg/h.png"):
        photograph(tmp_path / name)
    for name in ("x.heic", "y.heic", "notes.txt", "README", "z.pdf"):
        photograph(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.warns(
        PhotoNotice,
        match=r": 8 images; passed over: 2 \.heic, 1 \.pdf, 1 \.txt, 1 pipe\(s\), socket\(s\) or device\(s\), 1 without a suffix$",
    ) as heard:
        folder = PhotoFolder(tmp_path, 8)
    assert len(heard) == 1
    folder.check(8)
    assert folder.skipped[".heic"] == 2


def test_a_pipe_or_folder_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", tmp_path, tmp_path / "nowhere.png"):
        with pytest.raises(ValueError, match=f"{path} is no readable image .not a file that can be opened.; remove"):
            read_photo(path, 8)


def test_linked_folders_are_followed_once(tmp_path):
    photograph(tmp_path / "store" / "1.png")
    photograph(tmp_path / "tree" / "dogs" / "2.png")
    tree, store = tmp_path / "tree", tmp_path / "store"
    (tree / "cats").symlink_to(store)
    (tree / "felines").symlink_to(store)  # another class of the same photographs
    assert names(tree) == ["cats/1.png", "dogs/2.png", "felines/1.png"]
    assert class_folders(tree) == ["cats", "dogs", "felines"]
    (tree / "dogs" / "again").symlink_to(tree)  # rings, direct and by way of the store
    (store / "self").symlink_to(store)
    (store / "back").symlink_to(tree)
    assert names(tree) == ["cats/1.png", "dogs/2.png", "felines/1.png"]


def test_folders_linked_to_each_other_are_listed_where_they_lie(tmp_path):
    for name, other in ("ab", "ba"):
        photograph(tmp_path / name / f"{name}.png")
        (tmp_path / name / "other").symlink_to(tmp_path / other)
    found = find_photos(tmp_path)
    assert names(tmp_path) == ["a/a.png", "b/b.png"]
    assert found.skipped == {"linked folder(s), listed where they lie": 2}


def test_links_into_a_hidden_store_are_followed(tmp_path):
    photograph(tmp_path / ".store" / "cats" / "1.png")
    (tmp_path / "cats").symlink_to(".store/cats")
    (tmp_path / "one.png").symlink_to(".store/cats/1.png")
    assert names(tmp_path) == ["cats/1.png", "one.png"]


def test_a_dead_link_is_a_photograph_that_cannot_be_read(tmp_path):
    (tmp_path / "x.png").symlink_to("nowhere")
    (tmp_path / "y.png").symlink_to("y.png")
    assert names(tmp_path) == ["x.png", "y.png"]
    for path in find_photos(tmp_path).paths:
        with pytest.raises(ValueError, match=f"{path} is no readable image"):
            read_photo(path, 8)


def test_names_that_are_no_utf8(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    photograph(path / "x.png").rename(os.fsdecode(os.fsencode(path) + b"/\xff.png"))
    folder = PhotoFolder(path, 8)
    assert (folder.name, len(folder)) == ("caf\\xe9", 1)
    assert folder.identity["count"] == 1
    folder.check(1)
    assert printable(folder.paths[0]) == f"{tmp_path}/caf\\xe9/\\xff.png"


def test_the_home_folder_has_a_short_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    photograph(tmp_path / "photos" / "a.png")
    assert PhotoFolder("~/photos", 8).paths == [tmp_path / "photos" / "a.png"]
    assert read_photo("~/photos/a.png", 8).shape == (8, 8, 3)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"no image at all", bytes(500)])
def test_what_is_no_image_is_named(tmp_path, data):
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.png is no readable image \(.*\); remove or repair it"):
        read_photo(tmp_path / "x.png", 8)


def test_content_decides_and_not_the_name(tmp_path):
    file = io.BytesIO()
    Image.fromarray(pixels := colours(8, 8)).save(file, "PNG")
    (tmp_path / "x.jpg").write_bytes(file.getvalue())
    assert (read_photo(tmp_path / "x.jpg", 8) == pixels).all()
