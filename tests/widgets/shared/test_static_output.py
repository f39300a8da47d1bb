from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from workbench.schema import InputError
from workbench.widgets.shared import static_output
from workbench.widgets.shared.drawing import Still, Text
from workbench.widgets.shared.static_output import HIDING, RUN_THE_CELL, StaticOutput

VIEW = "application/vnd.jupyter.widget-view+json"


class Shell:
    """What IPython gives a kernel, as far as it matters here."""

    kernel = True

    def __init__(self) -> None:
        self.events = self
        self.hooks: list[Any] = []
        self.published: list[tuple[dict[str, Any], str, bool]] = []

    def register(self, _name: str, hook: Any) -> None:
        self.hooks.append(hook)

    def unregister(self, _name: str, hook: Any) -> None:
        self.hooks.remove(hook)

    def publish(self, data: dict[str, Any], _about: Any = None, transient: Any = None, update: bool = False) -> None:
        self.published.append((data, (transient or {}).get("display_id", ""), update))


class View(StaticOutput):
    """A view that shows a word."""

    def __init__(self, word: str = "<b>one</b>", error: Exception | None = None) -> None:
        self.word, self.error = word, error

    def still(self) -> Still:
        if self.error is not None:
            raise self.error
        return Still(self.word, [Text(self.word)], {"word": self.word})

    def _repr_mimebundle_(self, **_options: Any) -> Any:
        return {VIEW: {"model_id": "abc"}, "text/plain": "<View object at 0x1>"}, {}


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    made = Shell()
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: made)
    monkeypatch.setattr("IPython.display.publish_display_data", made.publish)
    return made


def test_a_view_is_three_outputs(shell: Shell) -> None:
    View()._ipython_display_()
    (live, _, _), (words, _, _), (picture, _, _) = shell.published
    assert live == {VIEW: {"model_id": "abc"}, "text/plain": RUN_THE_CELL}
    assert words["text/plain"] == "<b>one</b>"
    assert words["text/html"].startswith('<p class="wb-kept">&lt;b&gt;one&lt;/b&gt;</p>')
    kept = Image.open(io.BytesIO(base64.b64decode(picture["image/png"])))
    assert json.loads(kept.text["workbench"]) == {"word": "<b>one</b>", "title": "<b>one</b>"}


@pytest.mark.parametrize("error", [InputError("This cannot be drawn."), ValueError("five")])
def test_what_cannot_be_drawn_is_said_and_keeps_no_view_from_being_shown(shell: Shell, error: Exception) -> None:
    View(error=error)._ipython_display_()
    assert VIEW in shell.published[0][0]
    assert str(error) in shell.published[1][0]["text/plain"]
    assert "image/png" in shell.published[2][0]


def test_a_cell_that_changes_a_view_changes_its_picture_at_once(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    async def cells() -> None:
        view = View()
        view._ipython_display_()
        names = [name for _, name, _ in shell.published[1:]]
        (after_cell,) = shell.hooks
        after_cell()
        assert len(shell.published) == 3
        view.word = "two"
        view.renew()
        after_cell()
        assert [(name, update) for _, name, update in shell.published[3:]] == [(name, True) for name in names]
        assert shell.published[3][0]["text/plain"] == "two"

        monkeypatch.setattr(static_output, "_REST", 0.0)
        view.word = "three"
        await asyncio.to_thread(view.renew)
        for _ in range(50):
            await asyncio.sleep(0.01)
        assert [data["text/plain"] for data, _, _ in shell.published[5:]] == ["three", "a picture of the view"]
        view.renew()
        view.settle()
        await asyncio.sleep(0.02)
        assert len(shell.published) == 7
        assert shell.hooks == []

    asyncio.run(cells())


def test_a_terminal_gets_the_words(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: None)
    View()._ipython_display_()
    assert capsys.readouterr().out == "<b>one</b>\n"


def test_a_picture_is_saved_and_other_files_are_refused(tmp_path: Path) -> None:
    assert Image.open(io.BytesIO(View().save(tmp_path / "x.PNG").read_bytes())).text["Title"] == "<b>one</b>"
    for name in ("x.html", "x", "x.jpg"):
        with pytest.raises(InputError, match=r"ends in \.png"):
            View().save(tmp_path / name)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        View().save(tmp_path / "folder.png")


def test_the_description_has_no_style_sheet_that_is_shown_as_text(shell: Shell) -> None:
    View()._ipython_display_()
    markup = shell.published[1][0]["text/html"]
    assert "<style" not in markup
    assert "<script" not in markup
    assert re.sub("<[^>]*>", "", markup) == "&lt;b&gt;one&lt;/b&gt;"


def test_a_view_that_lives_hides_what_is_kept_in_every_front_end() -> None:
    for container in (".jp-OutputArea-child", ".output_area", ".output_container", ".display_data"):
        assert re.search(rf"^{re.escape(container)}:has\(.*\) \+ {re.escape(container)}:has\(.wb-kept\)", HIDING, re.M)
