"""YAML files: numbers as people write them, and one sentence for everything that is no mapping in YAML."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import yaml

from reinvest.core.errors import InvalidValue
from reinvest.core.yaml_numbers import load, read, read_mapping


def test_numbers_are_those_of_yaml_1_2() -> None:
    assert load("[1e-3, 1.5E2, .5, 3, 1e3x]") == [0.001, 150.0, 0.5, 3, "1e3x"]


def refusal(path: Path) -> str:
    with pytest.raises(InvalidValue) as refused:
        read_mapping(path, "a study", holds="baseline and arms", remedy="see reinvest compare --help")
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "a study is a mapping with baseline and arms, got 'a.yaml' that is empty; see reinvest compare --help"),
        ("# to do\n", "that is empty"),
        ("---\n...\n", "that is empty"),
        ("- 1\n- 2\n", "got a list in 'a.yaml'; see reinvest compare --help"),
        ("digits", "got text in 'a.yaml'"),
        ("3", "got a number in 'a.yaml'"),
        ("no", "got true or false in 'a.yaml'"),
    ],
)
def test_what_is_no_mapping_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(text)
    assert expected in refusal(Path("a.yaml"))


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("a: 1\nb: c: d\n", 2, "mapping values are not allowed here"),
        ("a: 1\nb: [1\n\n", 4, "from line 2"),
        ("a: 1\n\tb: 2\n", 2, "cannot start any token"),
        ("a: 1\nb: 2026-13-45\n", 2, "month"),
        ("a: 1\nb: \x01\n", 2, "#x0001"),
        ("a: 1\nb: !!python/name:os.system\n", 2, "could not determine a constructor"),
        ("a: 1\n{b: 1}: 2\n", 2, "unhashable"),
        ("a: 1\nb: *nobody\n", 2, "undefined alias"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
    ],
)
def test_what_does_not_parse_has_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: int, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(text)
    said = refusal(Path("a.yaml"))
    assert said.startswith(f"a study is YAML, got 'a.yaml' that does not parse at line {line} (")
    assert why in said and said.endswith("; mend that line") and "unicode string" not in said
    with pytest.raises(yaml.YAMLError):
        load(text)


def test_what_is_no_text_file_is_refused_by_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder, packed, zeros = Path("runs"), Path("z.yaml"), Path("weights.bin")
    folder.mkdir()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("study.yaml", "title: a study\n" * 50)
    zeros.write_bytes(bytes(64))
    assert "got 'runs', which is a folder; name the file" in refusal(folder)
    assert "got 'z.yaml', which holds no text; " in refusal(packed)
    assert "got 'weights.bin', which holds no text; " in refusal(zeros)
    assert "got 'none.yaml', which does not exist; check the path" in refusal(Path("none.yaml"))
    Path("utf16.yaml").write_text("title: mine\n", encoding="utf16")
    assert "save it as UTF-8" in refusal(Path("utf16.yaml"))


def test_a_mapping_is_read_from_utf_8_with_or_without_its_mark(tmp_path: Path) -> None:
    for encoding in ("utf8", "utf-8-sig"):
        (tmp_path / "a.yaml").write_text("title: größer\nlr: 1e-3\n", encoding=encoding)
        assert read(tmp_path / "a.yaml", "a study", remedy="see --help") == {"title": "größer", "lr": 0.001}
        assert read_mapping(tmp_path / "a.yaml", "a study", holds="x", remedy="see --help") == {
            "title": "größer",
            "lr": 0.001,
        }
