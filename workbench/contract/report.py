"""What ``check_model`` found, as text, JSON, or a page that opens anywhere."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from workbench.contract.trying import Tried
from workbench.schema import InputError
from workbench.store.files import write_file
from workbench.store.listing import readable

SUFFIXES: Final = (".html", ".json", ".txt")


@dataclass(frozen=True)
class Part:
    """What a part of the check took.

    Attributes
    ----------
    name : str
        Which.
    seconds : float
        How long.
    device_bytes : int
        Most memory of the GPU during it; 0 without one.
    host_bytes : int
        Most memory of the process until its end.
    """

    name: str
    seconds: float
    device_bytes: int
    host_bytes: int


@dataclass(frozen=True)
class Report:
    """What was found about a model.

    Attributes
    ----------
    model, revision : str
        Its name, and the revision of its weights where the hub's cache says it.
    bundled : bool
        Whether it is the model that comes with this package: anything else is a run on real weights.
    family, origin : str
        The family that serves it, and where that comes from.
    tried : tuple of Tried
        Rules in the order in which they were tried.
    parts : tuple of Part
        Time and memory.
    facts : mapping of str to str
        What the model is, and what was captured.
    warnings : tuple of str
        What was warned of.
    versions, machine : mapping of str to str
        Of libraries; of the machine.
    created : str
        When, ISO 8601.
    picture : bytes
        The maps, PNG; empty where nothing could be captured.
    """

    model: str
    revision: str
    bundled: bool
    family: str
    origin: str
    tried: tuple[Tried, ...]
    parts: tuple[Part, ...]
    facts: Mapping[str, str]
    warnings: tuple[str, ...]
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    created: str
    picture: bytes = b""

    @property
    def passed(self) -> bool:
        """Whether every rule is kept."""
        return all(one.passed for one in self.tried)

    @property
    def title(self) -> str:
        """What kind of run it was."""
        if self.bundled:
            return f"workbench on its bundled model, {self.model}"
        return f"First run of workbench on real weights: {self.model}"

    @property
    def verdict(self) -> str:
        """All of it in a sentence."""
        broken = [one.rule.replace("_", " ") for one in self.tried if not one.passed]
        if broken:
            return f"{len(broken)} of {len(self.tried)} checks failed: {', '.join(broken)}. Do not trust its maps."
        return f"All {len(self.tried)} checks passed."

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the picture."""
        kept = asdict(self)
        del kept["picture"]
        return {"title": self.title, "passed": self.passed, "verdict": self.verdict} | kept

    def __str__(self) -> str:
        lines = [self.title, self.verdict, ""]
        lines += [_line("ok  " if one.passed else "FAIL", one) for one in self.tried]
        lines += ["", *(f"{name:<12} {value}" for name, value in self._described().items())]
        lines += ["", f"{'part':<12} {'time':>9}  {'GPU memory':>11}  {'host memory':>11}"]
        for part in self.parts:
            device = readable(part.device_bytes) if part.device_bytes else "-"
            lines.append(f"{part.name:<12} {part.seconds:>7.1f} s  {device:>11}  {readable(part.host_bytes):>11}")
        if self.warnings:
            lines += ["", *(f"warning: {text}" for text in self.warnings)]
        return "\n".join(lines)

    def _described(self) -> dict[str, str]:
        return {
            "family": f"{self.family} ({self.origin})",
            **({"revision": self.revision} if self.revision else {}),
            **self.facts,
            **self.machine,
            "versions": ", ".join(f"{name} {version}" for name, version in self.versions.items()),
            "made": self.created,
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report.

        Parameters
        ----------
        path
            A file that ends in ``.html`` (with the maps), ``.json`` or ``.txt``; it is replaced when it exists.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        InputError
            If it ends otherwise.
        """
        file = check_file(path)
        kind = file.suffix.lower()
        written = self.to_html() if kind == ".html" else self.to_json() if kind == ".json" else f"{self}\n"
        write_file(file, written.encode())
        return file

    def to_json(self) -> str:
        """The same as JSON, without the picture."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"

    def to_html(self) -> str:
        """A page that needs nothing else."""
        rows = "".join(
            f"<tr><td class={'ok' if one.passed else 'bad'}>{'ok' if one.passed else 'failed'}</td>"
            f"<td>{html.escape(one.rule.replace('_', ' '))}</td><td>{html.escape(one.told)}</td>"
            f"<td class=n>{one.seconds:.2f}&nbsp;s</td></tr>"
            for one in self.tried
        )
        facts = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self._described().items()
        )
        parts = "".join(
            f"<tr><td>{html.escape(part.name)}</td><td class=n>{part.seconds:.1f}&nbsp;s</td>"
            f"<td class=n>{readable(part.device_bytes) if part.device_bytes else '–'}</td>"
            f"<td class=n>{readable(part.host_bytes)}</td></tr>"
            for part in self.parts
        )
        picture = ""
        if self.picture:
            data = base64.b64encode(self.picture).decode()
            picture = (
                f'<h2>Maps</h2><img alt="The picture and a map for each concept" src="data:image/png;base64,{data}">'
            )
        warned = "".join(f"<li>{html.escape(text)}</li>" for text in self.warnings)
        return _PAGE.format(
            title=html.escape(self.title),
            kind="bad" if not self.passed else "ok",
            verdict=html.escape(self.verdict),
            rows=rows,
            facts=facts,
            parts=parts,
            picture=picture,
            warned=f"<h2>Warnings</h2><ul>{warned}</ul>" if warned else "",
        )


def check_file(path: str | os.PathLike[str]) -> Path:
    """A file that a report can be written to.

    Raises
    ------
    InputError
        If its name ends in nothing that can be written, or its folder is not there.
    """
    file = Path(path)
    if file.suffix.lower() not in SUFFIXES:
        ending = repr(file.suffix) if file.suffix else "nothing"
        raise InputError(f"the report {str(path)!r} ends in {ending}; expected one of {', '.join(SUFFIXES)}.")
    if not file.absolute().parent.is_dir():
        raise InputError(f"the folder of the report {str(path)!r} does not exist: make it, or give another file.")
    return file


def _line(mark: str, one: Tried) -> str:
    return f"{mark}  {one.rule.replace('_', ' '):<32} {one.told}"


_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.5rem }} h2 {{ font-size: 1.1rem; margin-top: 2rem }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ text-align: left; vertical-align: top; padding: .25rem .6rem; border-bottom: 1px solid #ddd;
  font-weight: normal; overflow-wrap: anywhere }}
th {{ color: #555; white-space: nowrap }} .n {{ text-align: right; white-space: nowrap }}
td.ok, td.bad {{ white-space: nowrap }}
.ok {{ color: #1a6b2f }} .bad {{ color: #a3161b; font-weight: 600 }} img {{ max-width: 100% }}
</style>
<h1>{title}</h1>
<p class="{kind}">{verdict}</p>
{picture}
<h2>Checks</h2><table>{rows}</table>
<h2>Time and memory</h2>
<table><tr><th>part</th><th class=n>time</th><th class=n>GPU memory</th><th class=n>host memory</th></tr>{parts}</table>
<h2>Model and machine</h2><table>{facts}</table>
{warned}
</html>
"""
