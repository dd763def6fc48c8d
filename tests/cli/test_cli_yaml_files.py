"""Files in YAML: whatever command reads one says in a sentence why it cannot."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from calling import Call

COMMANDS = (
    ("compare",),
    ("compare", "--dry-run"),
    ("plan",),
    ("sequence",),
    ("tune",),
    ("train",),
    ("advise",),
    ("ablate",),
    ("gate", "--record"),
    ("variance", "--recipe"),
    ("compare", str(Path(__file__).parents[2] / "examples" / "study.yaml"), "--prices"),
)


@pytest.fixture
def files(call: Call) -> Call:
    Path("empty.yaml").write_text("# later\n")
    Path("wrong.yaml").write_text("title: mine\nbaseline: task: digits\n")
    Path("a_folder").mkdir()
    with zipfile.ZipFile("packed.yaml", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("study.yaml", "title: a study\n" * 50)
    return call


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("empty.yaml", "got 'empty.yaml' that is empty; "),
        ("wrong.yaml", "got 'wrong.yaml' that does not parse at line 2 (mapping values are not allowed here); mend"),
        ("a_folder", "got 'a_folder', which is a folder; name the file in it"),
        ("packed.yaml", "got 'packed.yaml', which holds no text; check the path"),
        ("none.yaml", "got 'none.yaml', which does not exist; check the path"),
    ],
)
def test_what_is_no_yaml_is_refused_in_a_sentence(
    files: Call, words: tuple[str, ...], file: str, expected: str
) -> None:
    said = files(*words, file)
    assert said.code == (4 if words[0] == "gate" else 2) and expected in said.sentence
    assert not Path("runs").exists()
