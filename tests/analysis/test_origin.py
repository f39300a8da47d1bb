from __future__ import annotations

import json

from tests.synthetic import dataset
from workbench.analysis.origin import as_text, provenance, stem, stem_of


def test_facts_of_a_run_are_plain() -> None:
    ds = dataset().assign_attrs(key="abc123", prompt="", interventions=[{}], edit="SkipBlock(3)")
    facts = provenance(ds)
    assert json.loads(as_text(facts)) == facts
    assert facts["key"] == "abc123"
    assert facts["edit"] == "SkipBlock(3)"
    assert facts["concepts"] == ["dog", "grass", "sky"]
    assert facts["versions"] == {"workbench": "0"}
    assert "prompt" not in facts
    assert provenance(ds.assign_attrs(inputs={"strength": 0.6}))["inputs"] == {"strength": 0.6}


def test_names_of_files_come_from_the_run() -> None:
    ds = dataset().assign_attrs(key="abc1234567890")
    assert stem_of(ds) == "dog-grass-sky-abc12345"
    assert stem_of(ds.assign_attrs(interventions=[{}], edit="SkipBlock(3)")) == "dog-grass-sky-SkipBlock-3-abc12345"
    assert stem_of(dataset(spaces=("prompt",)).drop_vars("concept")) == "a-dog-on-a"


def test_names_of_files_fit_every_file_system() -> None:
    assert stem(["../a/b\\c:*?", "\0<x>"]) == "a-b-c-x"
    assert stem([]) == "maps"
    assert stem(["犬", "é"]) == "犬-é"
    assert len(stem(["x" * 500], "y" * 500, "z" * 500)) < 120
