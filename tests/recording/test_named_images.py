from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.recording.named_images import content_name, name_images, read_concepts, read_prompts
from workbench.schema import InputError, PerItem

PIXELS = np.zeros((8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/dog.png", "a/cat.png"], ["dog", "cat"]),
        (["a/dog.png", "b/dog.png"], ["a/dog", "b/dog"]),
        (["a/dog.png", "a/dog.jpg"], ["dog.png", "dog.jpg"]),
        (["a/dog.png", "a/dog.jpg", "b/cat.png"], ["a/dog.png", "a/dog.jpg", "b/cat.png"]),
    ],
)
def test_files_are_called_after_as_much_of_their_path_as_tells_them_apart(
    files: list[str], names: list[str], tmp_path: Path
) -> None:
    assert name_images([tmp_path / file for file in files]).names == names
    assert name_images(str(tmp_path / file) for file in files).names is None


def test_a_folder_is_its_images_by_name(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "more.png").mkdir()
    found = name_images(tmp_path)
    assert found.names == ["a", "b"]
    assert [one.image for one in found.images] == [tmp_path / "a.JPG", tmp_path / "b.png"]


def test_names_come_from_mappings_pairs_and_lists(tmp_path: Path) -> None:
    file = tmp_path / "c.png"
    Image.fromarray(PIXELS).save(file)
    with Image.open(file) as opened:
        assert name_images({"a": PIXELS, "b": PIXELS}).names == ["a", "b"]
        assert name_images([("a", PIXELS), PIXELS, opened]).names == ["a", "", "c"]
        assert name_images([PIXELS, PIXELS], ["x", "y"]).names == ["x", "y"]
        assert name_images(np.stack([PIXELS, PIXELS])).names == ["", ""]
        stream = name_images(iter([("a", PIXELS), PIXELS, opened, str(file)]))
        assert stream.total is None
        assert [one.name for one in stream.images] == ["a", "", "c", "c"]
    assert content_name(PIXELS) == content_name(PIXELS.copy()) != content_name(PIXELS + 1)


@pytest.mark.parametrize(
    ("images", "names", "message"),
    [
        (PIXELS, None, r"shape \(8, 8, 3\).*one image call wb.capture"),
        (Image.fromarray(PIXELS), None, "images is one Image"),
        ([], None, "there are no images"),
        ({"a": PIXELS}, ["a"], "mapping, which names"),
        ([PIXELS], ["a", "b"], "2 names and 1 images"),
        ([PIXELS], [" "], "called ' '"),
        ([PIXELS, PIXELS], ["a", "a"], "two images are called 'a'"),
        (["x/dog.png", "x/dog.png"], None, "two images are called 'dog.png'"),
        ({"a.png", "b.png"}, None, "images is a set"),
        (3, None, "images is a int"),
        (b"abc", None, "images is one bytes"),
        ("nowhere at all", None, "which is no folder"),
        ("x" * 5000, None, "x…x.*which is no folder"),
        ([(" ", PIXELS)], None, "called ' '"),
    ],
)
def test_what_is_not_many_images_is_refused(images: object, names: list[str] | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        name_images(images, names)


def test_a_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no images; expected files that end in \.jpg"):
        name_images(tmp_path)
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match="which is no folder"):
        name_images(tmp_path / "a.png")


def test_a_stream_with_more_images_than_names_says_so() -> None:
    with pytest.raises(InputError, match="1 names, and more images"):
        list(name_images(iter([PIXELS, PIXELS]), ["a"]).images)


def test_concepts_are_common_or_of_each_image() -> None:
    assert read_concepts(["dog ", "sky"]) == ("dog", "sky")
    by_name = read_concepts({"a": ["dog"], "b": ["sky"]})
    in_order = read_concepts([["dog"], ["sky"]])
    assert isinstance(by_name, PerItem)
    assert isinstance(in_order, PerItem)
    assert by_name.of("b", 0) == in_order.of("b", 1) == ("sky",)
    assert by_name.entries == in_order.entries == [("dog",), ("sky",)]
    images = name_images({"a": PIXELS, "c": PIXELS})
    with pytest.raises(InputError, match="none for 'c'"):
        by_name.check(images.names, images.total)
    with pytest.raises(InputError, match="for 2 images, and there are 1"):
        in_order.check([""], 1)
    with pytest.raises(InputError, match="none for 'x'"):
        in_order.of("x", 2)
    with pytest.raises(InputError, match="no name"):
        by_name.of("", 0)
    for wrong in ("dog", {"a": "dog"}, [["dog"], "sky"], {"a": []}):
        with pytest.raises(InputError, match="concepts"):
            read_concepts(wrong)


def test_masks_are_given_for_each_image() -> None:
    assert PerItem.read("masks", lambda name: {"dog": name}).of("a", 3) == {"dog": "a"}
    with pytest.raises(InputError, match="masks are a ndarray; expected those of each image"):
        PerItem.read("masks", PIXELS)


def test_a_stream_with_fewer_images_than_names_says_so() -> None:
    given = name_images((PIXELS for _ in range(2)), names=["a", "b", "c"])
    with pytest.raises(InputError, match="there are 3 names, and there were 2 images"):
        list(given.images)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file names")
@pytest.mark.parametrize("streamed", [False, True])
def test_file_names_that_are_no_text_are_escaped(streamed: bool, tmp_path: Path) -> None:
    files = [tmp_path / os.fsdecode(name) for name in (b"a\xff.png", b"b\nc.png", b" .png", "d é.png".encode())]
    given = name_images(iter(files) if streamed else files)
    assert [one.name for one in given.images] == ["a\\xff", "b\\nc", " .png", "d é"]


def test_one_word_is_not_the_names_of_all() -> None:
    with pytest.raises(InputError, match="names is the string 'abc'; expected one name for each image"):
        name_images([PIXELS] * 3, names="abc")


@pytest.mark.parametrize("name", ["a\0", "a\nb", "\x85", " "])
def test_names_without_letters_of_a_line_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="not blank and holds no control characters"):
        name_images({name: PIXELS})


def test_prompts_are_common_or_of_each_image() -> None:
    assert read_prompts("a dog") == "a dog"
    assert read_prompts({"a": "x"}) == PerItem("prompts", {"a": "x"})
    assert read_prompts(("x", "")) == PerItem("prompts", ["x", ""])
    with pytest.raises(InputError, match="prompt is a int"):
        read_prompts({"a": 3})
    with pytest.raises(InputError, match="a string that is not blank"):
        read_prompts({"": "x"})
    for given in (np.array(["a", "b"]), iter(["a", "b"]), {"a", "b"}):
        with pytest.raises(
            InputError, match=rf"prompt is a {type(given).__name__}; expected one text for all .*list\("
        ):
            read_prompts(given)
    with pytest.raises(InputError, match=r"prompt is a int; expected one text for all .* of images to texts\.$"):
        read_prompts(3)
