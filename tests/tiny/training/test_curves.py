from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.tiny.training import curves


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two stages; step 200 was taken twice, by a training that was resumed."""
    path = tmp_path / "log.jsonl"
    told = [
        (100, 64, 8, 10),
        (200, 64, 8, 99),
        (200, 64, 8, 20),
        (300, 96, 4, 40),
        (400, 96, 4, 60),
    ]
    names = ("step", "size", "rows", "seconds")
    losses = {"flow": 1.0, "presence": 0.5, "colour": 0.2}
    records = [dict(zip(names, values, strict=True)) | losses for values in told]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_resumed_log_is_read_once(log: Path) -> None:
    records = curves.read_log(log)
    assert [record["step"] for record in records] == [100, 200, 300, 400]
    assert records[1]["seconds"] == 20


def test_throughput_is_told_by_stage(log: Path) -> None:
    assert curves.throughput(curves.read_log(log)) == {
        "64 px, 8 rows": pytest.approx(80),
        "96 px, 4 rows": pytest.approx(20),
    }


def test_curves_show_every_loss_and_stage(log: Path) -> None:
    records = curves.read_log(log)
    (axes,) = curves.loss_curves(records, records).axes
    assert axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "flow matching",
        "presence",
        "colour",
        "control's flow",
    ]
    assert [text.get_text() for text in axes.texts] == ["64 px\n8 rows", "96 px\n4 rows"]
    assert [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2] == [200]


def test_names_of_short_stages_do_not_overlap(log: Path) -> None:
    records = curves.read_log(log)
    records[-1]["step"] = 4000
    figure = curves.loss_curves(records)
    figure.canvas.draw()
    first, second = (text.get_window_extent() for text in figure.axes[0].texts)
    assert not first.overlaps(second)
