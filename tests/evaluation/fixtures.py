"""Small data sets on disk in the layouts of the real ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from workbench.evaluation.datasets import DataSet, Labels

VOC_PALETTE = [value for number in range(256) for value in (number, 255 - number, 128)]


class Arrays(DataSet):
    """Images and label maps from memory."""

    def __init__(self, labels: Mapping[str, np.ndarray], **options: object) -> None:
        defaults: dict[str, object] = {"name": "arrays", "task": "single", "classes": ("background", "dog")}
        super().__init__(**{**defaults, **options})  # type: ignore[arg-type]
        object.__setattr__(self, "held", dict(labels))

    def all_names(self) -> tuple[str, ...]:
        return tuple(self.held)  # type: ignore[attr-defined]

    def image(self, name: str) -> np.ndarray:
        height, width = self.labels(name).shape
        return np.full((height, width, 3), 127, dtype=np.uint8)

    def labels(self, name: str) -> Labels:
        return np.asarray(self.held[name], dtype=np.int16)  # type: ignore[attr-defined]


def voc_tree(folder: Path, images: Mapping[str, np.ndarray], truncated: str = "", grey: str = "") -> Path:
    """A VOC2012 folder with palette PNGs of these label maps."""
    root = folder / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / part).mkdir(parents=True)
    for name, labels in images.items():
        mask = Image.fromarray(labels.astype(np.uint8), "P")
        mask.putpalette(VOC_PALETTE)
        mask.save(root / "SegmentationClass" / f"{name}.png")
        rng = np.random.default_rng(len(name))
        pixels = rng.integers(0, 255, (*labels.shape, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        path = root / "JPEGImages" / f"{name}.jpg"
        (image.convert("L") if name == grey else image).save(path, quality=90)
        if name == truncated:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(images) + "\n")
    return folder


def gtsegs(path: Path, items: list[tuple[str, tuple[int, int], bool]]) -> Path:
    """A MATLAB 7.3 file as the makers of ImageNet-Segmentation publish it: ids, sizes, and whether there is a mask."""
    with h5py.File(path, "w", userblock_size=512) as file:
        value, refs = file.create_group("value"), file.create_group("#refs#")
        reference = h5py.special_dtype(ref=h5py.Reference)
        parts = {name: value.create_dataset(name, (len(items), 1), dtype=reference) for name in ("id", "img", "gt")}
        for row, (name, (height, width), masked) in enumerate(items):
            letters = np.frombuffer(name.encode("utf-16-le"), dtype=np.uint16)[:, None]
            parts["id"][row, 0] = refs.create_dataset(f"id{row}", data=letters).ref
            rng = np.random.default_rng(row)
            image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
            parts["img"][row, 0] = refs.create_dataset(f"img{row}", data=image.transpose(2, 1, 0)).ref
            if masked:
                mask = np.zeros((height, width), dtype=np.uint8)
                mask[: height // 2, : width // 3] = 1
                inner = refs.create_dataset(f"mask{row}", data=mask.transpose(1, 0))
                other = refs.create_dataset(f"other{row}", data=np.zeros((width, height), np.uint8))
                nested = refs.create_dataset(f"gt{row}", (1, 2), dtype=reference)
                nested[0, 0], nested[0, 1] = inner.ref, other.ref
                parts["gt"][row, 0] = nested.ref
    header = b"MATLAB 7.3 MAT-file".ljust(512)
    with path.open("r+b") as raw:
        raw.write(header)
    return path
