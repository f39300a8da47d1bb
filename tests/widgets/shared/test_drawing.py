from __future__ import annotations

import io
import json

import numpy as np
from PIL import Image

from workbench.widgets.shared.drawing import Beside, Legend, Ramp, Shown, Table, Text, Tile, Tiles, draw, gif, png

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (240, 240, 3), np.uint8))
BLOCKS = [
    Text("word " * 200, most=2),
    Text("", soft=True),
    Tiles([Tile(f"tile {index}", lambda wide, tall: NOISE.resize((wide, tall)), "#aa0000") for index in range(7)], 0.5),
    Ramp(np.zeros((256, 3), np.uint8), (0.0, 1.0), "share"),
    Legend([(f"name {index}", "#00aa00") for index in range(30)]),
    Table(("a", "b"), [("1", "x" * 400)]),
]


def test_no_block_is_wider_or_higher_than_it_says() -> None:
    for width in (360, 960):
        for block in BLOCKS:
            tall = block.height(width)
            paper = Image.new("RGB", (width + 50, tall + 50), "#ffffff")
            if tall:
                block.paint(paper, 0, width)
            pixels = np.asarray(paper)
            assert (pixels[tall + 2 :] == 255).all()
            assert (pixels[:, width + 1 :] == 255).all()


def test_blocks_stand_below_or_beside_one_another() -> None:
    one = draw([BLOCKS[2]], 500).height
    assert draw([BLOCKS[2], BLOCKS[2]], 500).height == 2 * one - 24 + 10
    assert draw([Beside([[BLOCKS[3]], [BLOCKS[3], BLOCKS[3]]])], 500).height == draw([BLOCKS[3], BLOCKS[3]], 500).height


def test_a_large_picture_is_reduced_until_it_fits() -> None:
    wide = Shown(NOISE.resize((960, 240)))
    whole = png([wide], {}, most=None)
    fits = png([wide], {}, most=100_000)
    assert len(fits) <= 100_000 < len(whole)
    assert Image.open(io.BytesIO(fits)).width < Image.open(io.BytesIO(whole)).width


def test_few_colours_keep_small_swatches() -> None:
    entries = [("orange", "#E69F00"), ("pink", "#F6C6D9"), ("green", "#009E73")]
    blocks = [Shown(NOISE.convert("L")), Legend(entries)]
    found = np.asarray(Image.open(io.BytesIO(png(blocks, {}, most=50_000))).convert("RGB")).astype(int)
    for _, colour in entries:
        wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
        assert np.abs(found[-30:] - wanted).sum(-1).min() < 24


def test_files_keep_facts_and_no_markup_or_control_characters() -> None:
    facts = {"title": "a\0b\n<script>", "concepts": ["\0", "é"]}
    picture = Image.open(io.BytesIO(png([Text("x")], facts)))
    assert picture.text["Title"] == "a b <script>"
    assert json.loads(picture.text["workbench"]) == facts
    moving = Image.open(io.BytesIO(gif([[Text("x")], [Text("y")]], facts, 100)))
    assert json.loads(moving.info["comment"]) == facts
    assert (moving.n_frames, moving.info["duration"]) == (2, 100)


def test_the_same_blocks_give_the_same_file() -> None:
    assert png(BLOCKS, {"a": 1}) == png(BLOCKS, {"a": 1})
