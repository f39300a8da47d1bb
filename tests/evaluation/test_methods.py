from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation.fixtures import Arrays
from workbench.evaluation.examples import Figures, measure, read
from workbench.evaluation.methods import Method, Setting, blind, floors, labelled
from workbench.evaluation.names import BLIND
from workbench.evaluation.protocols import Protocol
from workbench.numerics.average_precision import Scaling
from workbench.numerics.confusion import accuracy
from workbench.numerics.resampling import ratio
from workbench.schema import InputError

RULES = Protocol(backgrounds=("sky", "grass"))


def dataset(**options: object) -> Arrays:
    labels = {}
    for number, (top, left) in enumerate([(0, 0), (0, 1), (8, 8)]):
        one = np.zeros((16, 16))
        one[top : top + 6, left : left + 6] = 1
        labels[f"image {number}"] = one
    return Arrays(labels, grid=(16, 16), **options)


def maps_of(name: str, data: Arrays | None = None, rules: Protocol = RULES) -> list[np.ndarray]:
    data = data or dataset()
    method = blind(name)
    names = tuple(data.all_names())
    method.prepare(Setting(data, rules, names))
    tasks = [read(data, one, rules) for one in names]
    found = list(method.maps([task.example for task in tasks], [task.concepts for task in tasks]))
    for task, one in zip(tasks, found, strict=True):
        measure(task, one, rules)
    return [one.to_numpy() for one in found]


@pytest.mark.parametrize("name", BLIND)
def test_every_method_makes_maps(name: str) -> None:
    assert isinstance(blind(name), Method)
    for found in maps_of(name):
        assert found.shape == (3, 16, 16)


def test_the_oracle_is_right_and_the_floors_are_not() -> None:
    data = dataset()
    right = {}
    for name in BLIND:
        method = blind(name)
        method.prepare(Setting(data, RULES, tuple(data.all_names())))
        counts = np.zeros((3, 3), dtype=np.int64)
        for one in data.all_names():
            task = read(data, one, RULES)
            (maps,) = method.maps([task.example], [task.concepts])
            counts += measure(task, maps, RULES).counts
        right[name] = float(ratio(*accuracy(counts)))
    assert right["oracle"] == 1
    assert right["background"] == right["uniform"] == pytest.approx(1 - 36 / 256)
    assert 0.4 < right["random"] < 0.6
    assert max(right, key=lambda name: right[name]) == "oracle"


def test_the_prior_leaves_the_image_itself_out() -> None:
    """Of three images, two overlap: in the third one nothing of its own place is known."""
    first, _, third = maps_of("prior")
    assert third[0][8:14, 8:14].max() == 0
    assert first[0][0, 1] == 0.5
    assert first[0][0, 0] == 0


def test_random_maps_are_the_same_each_time_and_differ_between_images() -> None:
    one, other = maps_of("random"), maps_of("random")
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
    assert not (one[0] == one[1]).all()
    assert not (one[0] == maps_of("random", rules=RULES.changed(seed=1))[0]).all()


def test_what_stands_in_every_table() -> None:
    assert floors(dataset()) == ("background", "random", "prior", "oracle")
    assert floors(dataset(background=None, task="multi"))[0] == "majority"


def test_a_method_that_is_not_prepared_says_so() -> None:
    task = read(dataset(), "image 0", RULES)
    with pytest.raises(InputError, match="is not prepared"):
        list(blind("uniform").maps([task.example], [task.concepts]))


def test_nothing_is_background_where_every_pixel_has_a_class() -> None:
    """The first class everywhere would be called all background."""
    with pytest.raises(InputError, match="nothing is background: take the floor 'majority'"):
        blind("background").prepare(Setting(dataset(background=None), RULES, ()))


@pytest.mark.parametrize("scaling", ["minmax", "none"])
def test_the_oracle_orders_patches_by_how_much_of_them_shows_the_class(scaling: Scaling) -> None:
    """A map of ones and noughts would have less average precision, and methods whose maps are graded more."""
    labels = np.zeros((12, 12))
    labels[1:9, 2:11] = 1
    data = Arrays({"a": labels}, grid=(4, 4))
    rules = Protocol(backgrounds=("sky",), ap_scaling=scaling)
    task = read(data, "a", rules)

    def figures(maps: np.ndarray) -> Figures:
        return measure(task, labelled(maps, task.concepts), rules)

    method = blind("oracle")
    method.prepare(Setting(data, rules, ("a",)))
    (maps,) = method.maps([task.example], [task.concepts])
    best = measure(task, maps, rules)
    shares = method.shares(task)
    assert best.ap == figures(shares[::-1]).ap > figures((shares[::-1] > 0.5).astype(float)).ap
    assert best.ap_stacked > figures((shares[::-1] > 0.5).astype(float)).ap_stacked
    rng = np.random.default_rng(0)
    noisy = [figures(shares[::-1] + rng.normal(0, 1, (2, 4, 4))) for _ in range(20)]
    assert all(best.ap > one.ap and best.ap_stacked > one.ap_stacked for one in noisy)
    chosen = np.array([task.meaning[place] for place in np.argmax(maps.to_numpy(), 0).ravel()]).reshape(4, 4)
    assert (chosen == (shares[1] > shares[0])).all()


@pytest.mark.parametrize("most", [False, True])
def test_the_oracle_masks_the_best_patches_however_few_or_many_there_are(most: bool) -> None:
    """Of 64 x 64 patches one shows the class and eight nearly half of it; or all but one show it, eight barely."""
    labels = np.full((256, 256), int(most))
    labels[0:4, 0:4] = 1 - most
    for place in range(8, 72, 8):
        labels[place : place + 4, 40:44] = most
        labels[place : place + 4, 40:42] = 1 - most
        labels[place, 40] = most  # seven of sixteen pixels
    data = Arrays({"a": labels}, grid=(64, 64))
    rules = Protocol(backgrounds=("sky",), mask="mean")
    task = read(data, "a", rules)
    method = blind("oracle")
    method.prepare(Setting(data, rules, ("a",)))
    (maps,) = method.maps([task.example], [task.concepts])
    shares = method.shares(task)
    best = (shares[1] > shares[0]).repeat(4, 0).repeat(4, 1)
    assert best.sum() == 16 * (4095 if most else 1)
    counts = measure(task, maps, rules).counts
    assert counts[:, 1].sum() == best.sum()
    assert counts[1, 1] == labels[best].sum()
