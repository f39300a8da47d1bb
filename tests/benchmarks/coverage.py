"""How often intervals hold what they are about, by the number of images: ``python -m tests.benchmarks.coverage``.

The population is the bundled model's own scores of 300 drawn test scenes. Samples of n of them are drawn with
replacement, each gives the intervals that a sweep over n images gives, and the share that holds the population's value
is the coverage. Of the percentile bootstrap that is the IoU of the population averaged over the words that the sample
shows; of the t interval the mean over images of each one's own mean IoU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.report import Figure, run
from workbench.models.loading import info_of, load_model
from workbench.numerics import resampling
from workbench.tiny.training.evaluate import capture_scenes
from workbench.tiny.training.map_scores import tally, to_pixels

SCENES, SAMPLES, RESAMPLES = 300, 400, 1000
SIZES = (2, 3, 5, 10, 20, 50)
CONFIDENCE = 0.95

Counts = NDArray[np.float64]
"""(2, image, word): pixels in the intersection and in the union, 0 / 0 where an image has nothing of a word."""


def tallies(scenes: int = SCENES) -> Counts:
    """Of the bundled model's default maps, on the first test scenes with their own words."""
    pipe = load_model("tiny-flux")
    info = info_of(pipe)
    captured = capture_scenes(pipe, "test", scenes, timesteps=(float(info["timestep"]),), spaces=("output",))
    found = []
    for one in captured:
        scores = one.maps["output"][0, info["default_layers"]]
        powers = np.exp(scores - scores.max(1, keepdims=True))
        maps = (powers / powers.sum(1, keepdims=True)).mean(0)
        found.append(tally(one.scene, one.words, to_pixels(maps.argmax(0), one.scene.labels.shape)))
    return np.stack(found, 1).astype(np.float64)


def covered(
    counts: Counts, size: int, samples: int = SAMPLES, resamples: int = RESAMPLES, seed: int = 0
) -> list[float]:
    """Shares of samples of some images whose interval holds the population's value: percentile bootstrap, and t."""
    rng = np.random.default_rng([seed, size])
    words = resampling.ratio(*counts.sum(1))
    each = resampling.mean_over_concepts(resampling.ratio(*counts))
    held = np.zeros(2)
    for sample in range(samples):
        chosen = rng.integers(0, counts.shape[1], size)
        bootstrap, by_t = intervals(*counts[:, chosen], resamples, sample)
        shown = counts[1, chosen].sum(0) > 0
        for kind, (low, high), value in ((0, bootstrap, words[shown].mean()), (1, by_t, np.nanmean(each))):
            held[kind] += low <= value <= high
    return [float(share) for share in held / samples]


def intervals(
    above: NDArray[np.float64], below: NDArray[np.float64], resamples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The ends of both intervals of mean IoU over some images (image, word), as a sweep makes them."""
    value = resampling.ratio(above.sum(0), below.sum(0))
    weights = resampling.draws(len(above), resamples, seed)
    drawn = resampling.ratio(resampling.resampled(weights, above), resampling.resampled(weights, below))
    each = resampling.mean_over_concepts(resampling.ratio(above, below))
    return resampling.interval(resampling.mean_of_draws(drawn, value), CONFIDENCE), resampling.t_interval(
        each, CONFIDENCE
    )[1]


def measure(counts: Counts | None = None, sizes: Sequence[int] = SIZES, samples: int = SAMPLES) -> list[Figure]:
    """Coverage of both kinds of interval for every number of images."""
    counts = tallies() if counts is None else counts
    figures = []
    for size in sizes:
        for kind, share in zip(("percentile bootstrap", "t"), covered(counts, size, samples), strict=True):
            error = 1.96 * np.sqrt(share * (1 - share) / samples)
            shown = (
                "not given by a sweep" if size < resampling.LEAST else "exploratory" if size < resampling.FEW else ""
            )
            detail = f"{samples} samples of {counts.shape[1]} images' scores" + f"; {shown}" * bool(shown)
            name = f"coverage of 95 % {kind} intervals over {size} images"
            figures.append(Figure(name, share, "", None, max(0, share - error), min(1, share + error), detail))
    return figures


if __name__ == "__main__":
    run("coverage", measure)
