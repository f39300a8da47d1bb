"""What maps are worth beside other ways to segment the scenes: without the image, without words, with masks to learn.

All but the clusters are given the words of the scene and choose among them, as the maps do. None of this is available
for a photograph; it says how far the scenes can be segmented by where things lie, by colour, and by small classifiers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from workbench.recording.capturing import capture
from workbench.tiny.scenes import BACKGROUNDS, NOUNS, OBJECTS, Scene, render
from workbench.tiny.training.components import PATCH
from workbench.tiny.training.map_scores import Figure, Labels, figure, oracle, tally, to_pixels

LEARNT_FROM: Final = range(90_000_000, 90_001_000)
"""Seeds of the scenes whose masks the references learn from; no model was trained on them."""
FOREST_SCENES, PROBE_SCENES = 400, 250
_PATCHES: Final = 20_000
"""Patches that a classifier is fitted on."""
_CONTEXT: Final = 8
"""Pixels around a patch that the forest sees."""

Segment = Callable[[Scene], Labels]


def references(scenes: Sequence[Scene], pipe: Any, timestep: float, learnt: range = LEARNT_FROM) -> dict[str, Figure]:
    """Scores of each reference on some scenes.

    Parameters
    ----------
    scenes
        The scenes, of the size the model was made for.
    pipe
        The model whose attention outputs are probed, in its last dual-stream block.
    timestep
        Where they are read.
    learnt
        Seeds of the scenes that are learnt from.

    Returns
    -------
    ``"location prior"``: where objects and grounds lie in other scenes of as many, without looking at the image;
    ``"colour clusters"``: k-means of patches' colours, one cluster a word, named by the truth;
    ``"pixel forest"``: a random forest on patches of 24 x 24 pixels, learnt with masks;
    ``"linear probe"``: logistic regression on attention outputs, learnt with masks.
    """
    others = [render(seed, scenes[0].image.shape[0]) for seed in learnt]
    block = len(pipe.transformer.transformer_blocks) - 1

    def outputs(scene: Scene) -> NDArray[np.float32]:
        return attention_outputs(pipe, scene, block, timestep)

    ways: dict[str, Segment] = {
        "location prior": location_prior(others),
        "colour clusters": colour_clusters,
        "pixel forest": classifier(_forest(), others[:FOREST_SCENES], surroundings),
        "linear probe": classifier(_regression(), others[:PROBE_SCENES], outputs),
    }
    return {
        name: figure(tally(scene, scene.words, segment(scene)) for scene in tqdm(scenes, desc=name, unit="scene"))
        for name, segment in ways.items()
    }


def location_prior(others: Sequence[Scene]) -> Segment:
    """Segmentations from the words alone: each patch takes what lies there most often in scenes of as many words.

    Which ground is the lower one, and which object stands where, is guessed.
    """
    shares: dict[tuple[int, int], list[NDArray[np.float64]]] = {}
    for scene in others:
        objects, grounds = _counts(scene)
        kinds = np.stack([scene.labels < objects, *(scene.labels == objects + ground for ground in range(grounds))])
        shares.setdefault((objects, grounds), []).append(_by_patch(kinds.astype(np.float64)))
    means = {counts: np.mean(some, 0) for counts, some in shares.items()}
    rng = np.random.default_rng(0)

    def segment(scene: Scene) -> Labels:
        from sklearn.cluster import KMeans  # type: ignore[import-untyped]

        objects, grounds = _counts(scene)
        near = min(means, key=lambda counts: (abs(counts[1] - grounds), abs(counts[0] - objects)))
        kinds = means[near].argmax(0)
        order = rng.permutation(grounds)
        labels: Labels = np.where(kinds == 0, 0, objects + order[np.clip(kinds - 1, 0, grounds - 1)])
        where = np.argwhere(kinds == 0)
        if objects > 1 and len(where) >= objects:
            parts = KMeans(objects, n_init=3, random_state=0).fit_predict(where)
            labels[tuple(where.T)] = rng.permutation(objects)[parts]
        return to_pixels(labels, scene.labels.shape)

    return segment


def colour_clusters(scene: Scene) -> Labels:
    """As many clusters of the patches' colours (means and spreads) as there are words, matched to them by the truth."""
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
    from sklearn.cluster import KMeans

    blocks = _patches(scene.image / 255.0, 0)
    features = np.concatenate([blocks.mean(2), blocks.std(2)], -1)
    count = len(scene.words)
    grid = features.shape[:2]
    found = KMeans(count, n_init=5, random_state=0).fit_predict(features.reshape(-1, features.shape[-1])).reshape(grid)
    labels = to_pixels(found, scene.labels.shape)
    both = np.array([[((labels == a) & (scene.labels == b)).sum() for b in range(count)] for a in range(count)])
    either = np.array([[((labels == a) | (scene.labels == b)).sum() for b in range(count)] for a in range(count)])
    _, names = linear_sum_assignment(-both / np.maximum(either, 1))
    return np.asarray(names)[labels]


def classifier(model: Any, others: Sequence[Scene], features: Callable[[Scene], NDArray[Any]]) -> Segment:
    """Segmentations by a classifier of patches, fitted on the most frequent word of each patch of other scenes.

    Parameters
    ----------
    model
        With ``fit`` and ``predict_proba``, as scikit-learn's.
    others
        The scenes to learn from.
    features
        Of a scene, (patch, feature), patches row by row.
    """
    rows = np.concatenate([features(scene) for scene in tqdm(others, desc=type(model).__name__, unit="scene")])
    words = np.concatenate([_nouns(scene) for scene in others])
    chosen = np.random.default_rng(0).permutation(len(rows))[:_PATCHES]
    model.fit(rows[chosen], words[chosen])

    def segment(scene: Scene) -> Labels:
        known = model.predict_proba(features(scene))
        chances = np.zeros((len(known), len(NOUNS)))
        chances[:, model.classes_] = known
        own = chances[:, [NOUNS.index(word) for word in scene.words]].argmax(1)
        side = scene.labels.shape[0] // PATCH
        return to_pixels(own.reshape(side, -1), scene.labels.shape)

    return segment


def attention_outputs(pipe: Any, scene: Scene, block: int, timestep: float) -> NDArray[np.float32]:
    """``o_x`` of a dual-stream block for a scene, (patch, width), all heads side by side."""
    found: list[NDArray[np.float32]] = []
    handle = (
        pipe.transformer.transformer_blocks[block]
        .attn.to_out[0]
        .register_forward_pre_hook(lambda _, given: found.append(given[0][0].float().cpu().numpy().copy()))
    )
    how: Any = {"layers": [block], "spaces": ("output",), "store": False, "progress": False}
    try:
        capture(scene.image, scene.words, model=pipe, timesteps=[timestep], **how)
    finally:
        handle.remove()
    return found[-1]


def surroundings(scene: Scene) -> NDArray[np.float32]:
    """Pixels of each patch and of :data:`_CONTEXT` pixels around it, (patch, value)."""
    blocks = _patches(scene.image.astype(np.float32) / 255, _CONTEXT)
    return np.asarray(blocks.reshape(blocks.shape[0] * blocks.shape[1], -1), dtype=np.float32)


def _forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier  # type: ignore[import-untyped]

    return RandomForestClassifier(60, n_jobs=1, random_state=0, min_samples_leaf=2, max_features="sqrt")


def _regression() -> Any:
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
    from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
    from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def _counts(scene: Scene) -> tuple[int, int]:
    """How many objects and grounds there are."""
    return sum(word in OBJECTS for word in scene.words), sum(word in BACKGROUNDS for word in scene.words)


def _nouns(scene: Scene) -> NDArray[np.int64]:
    """The most frequent word of each patch, as an index of all words."""
    return np.array([NOUNS.index(word) for word in scene.words])[oracle(scene)[::PATCH, ::PATCH].ravel()]


def _patches(image: NDArray[Any], around: int) -> NDArray[Any]:
    """(y, x, pixel, channel) of each patch, with so many pixels around it."""
    wide = np.pad(image, ((around, around), (around, around), (0, 0)), mode="edge")
    side = PATCH + 2 * around
    windows = np.lib.stride_tricks.sliding_window_view(wide, (side, side), (0, 1))[::PATCH, ::PATCH]
    return windows.transpose(0, 1, 3, 4, 2).reshape(*windows.shape[:2], side * side, image.shape[2])


def _by_patch(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over the pixels (kind, pixel_y, pixel_x) of each patch."""
    kinds, height, width = values.shape
    blocks = values.reshape(kinds, height // PATCH, PATCH, width // PATCH, PATCH)
    return np.asarray(blocks.mean((2, 4)))
