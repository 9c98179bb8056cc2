"""YAML that no person wrote: nested, endless, with tags and letters that no setting has."""

from __future__ import annotations

import pytest

from litscope.config.yamlfile import parse, read
from litscope.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: " + "[" * 10_000 + "]" * 10_000, 1, "nested more than 20 deep"),
        ("a: " + "{b: " * 10_000, 1, "nested more than 20 deep"),
        ("".join(f"{'  ' * i}k:\n" for i in range(3000)), 20, "nested more than 20 deep"),
        ("- " * 10_000, 1, "nested more than 20 deep"),
        ("a: &a [*a]", 1, "an alias"),
        ("a: &a\n  b: *a", 2, "an alias"),
        ("&a\nb: *a", 2, "an alias"),
        ("a: &a {x: 1}\nb: &b {p: *a, q: *a}\nc: {r: *b, s: *b}", 2, "an alias"),
        ("a: *b", 1, "undefined alias"),
        ("data:\n  dataset: a\0b", 2, "U+0000 is not allowed"),
        ("data:\n  dataset: \x07", 2, "U+0007 is not allowed"),
        ("data:\n  dataset: \ud800", 2, "U+D800 is not allowed"),
        ('data:\n  dataset: "\\ud800"', 2, "cannot be read as str"),
        ("data: !!set {a, b}", 1, "without a tag"),
        ("data:\n  dataset: !!set\n    ? a", 2, "without a tag"),
        ("data: !!omap [a: 1]", 1, "without a tag"),
        ("data: !!python/object/apply:os.system [id]", 1, "without a tag"),
        ("!!set {a, b}", 1, "settings are `key: value` pairs"),
        ("a: !!int two", 1, "'two' cannot be read as int"),
        ("a: {b: [!!int two]}", 1, "'two' cannot be read as int"),
        ("a: !!int ''", 1, "cannot be read as int"),
        ("a:\n  b: " + "9" * 5000, 2, "cannot be read as int"),
        ("a: !!float x", 1, "cannot be read as float"),
        ("a: !!bool maybe", 1, "cannot be read as bool"),
        ("a: !!timestamp 2020", 1, "cannot be read as timestamp"),
        ("a: !!timestamp 2020-99-99", 1, "cannot be read as timestamp"),
        ("a: !mine b", 1, "could not determine a constructor"),
        ("a: 1\n---\nb: 2", 2, "another document"),
    ],
)
def test_strange_yaml_is_one_sentence_with_its_line(text, line, said):
    with pytest.raises(ConfigError) as caught:
        parse(text, "r.yaml")
    assert str(caught.value).startswith(f"r.yaml, line {line}: ")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_word_may_be_given_by_an_alias():
    [entry] = parse("data: {val_split: &share 0.2, test_split: *share}", "r.yaml")
    assert [child.value for child in entry.value] == [0.2, 0.2]


def test_a_file_in_another_encoding_is_an_error(tmp_path):
    (tmp_path / "r.yaml").write_bytes("data:\n  dataset: café\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "r.yaml")
