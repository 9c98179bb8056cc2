"""Write the types of the keywords that Python calls take, so that editors and type checkers know them.

    python scripts/keywords.py            write litscope/{config,models,data}/keywords.py
    python scripts/keywords.py --check    exit 1 if they are not what the tables of settings say

They come from the same tables as the flags of the command line: `litscope/config/` for `fit`, `cv`, `tune` and
`lr_find`, `ClassifierSettings` for `Classifier`, `DataSettings` for `ClassificationData`.
`tests/project/test_keywords.py` fails when a file is out of date.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import os
import subprocess
import sys
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union

from litscope.config.fields import fields
from litscope.config.options import OPTIONS, all_flags
from litscope.config.section import Field, docs_of
from litscope.data.settings import DONE_OTHERWISE, NOT_WANTED, DataSettings
from litscope.models.settings import ClassifierSettings

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "litscope"


@dataclasses.dataclass(frozen=True)
class Keyword:
    """One keyword: its name, its type as it is written, and what it means."""

    name: str
    type: str
    doc: str


# ---- from the tables of settings to keywords -----------------------------------------------------


def fit_keywords() -> Iterator[Keyword]:
    """Those of `fit` and of all calls that train by its flags; `dataset` is an argument of its own."""
    docs = {option.name: option.doc for option in OPTIONS}
    yield Keyword("config", "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]", docs["config"])
    yield Keyword("preset", "str | None", docs["preset"])
    for field in fields():
        if field.name == "dataset":
            continue
        written = _type_of_field(field)
        values = f" One of: {', '.join(field.choices)}." if field.choices else ""
        yield Keyword(field.name, written, field.doc + values)
        yield from (Keyword(name, written, f"The same as `{field.name}`.") for name in field.names[1:])
        for flag in all_flags(field):
            name = flag.removeprefix("--").replace("-", "_")
            if name not in field.names:
                yield Keyword(name, "bool", f"The other way of `{name.removeprefix('no_')}`.")


def _type_of_field(field: Field) -> str:
    """What a keyword takes: the field's type, and what else becomes it."""
    parts = [collections.abc.Sequence[field.item], str] if field.is_list else list(field.parts)
    parts += field.takes
    return _union([*parts, *([types.NoneType] if field.may_be_none else [])])


def keywords_of(settings: type, but: str) -> Iterator[Keyword]:
    """Those of a class that takes the fields of a dataclass of settings.

    Args:
        but: the field that is an argument of its own.
    """
    hints, docs = typing.get_type_hints(settings), docs_of(settings)
    for field in dataclasses.fields(settings):
        written = _written(hints[field.name])
        if field.name != but:
            yield Keyword(field.name, written, docs[field.name])
        for name in field.metadata.get("also", ()):
            yield Keyword(name.replace("-", "_"), written, f"The same as `{field.name}`.")


def words_of_torch() -> Iterator[Keyword]:
    """Words of torch's DataLoader that `ClassificationData` answers."""
    for name, why in DONE_OTHERWISE.items():
        yield Keyword(name, "object", f"Of torch's DataLoader; it changes nothing: {why}.")
    for name, (value, why) in NOT_WANTED.items():
        yield Keyword(name, "None" if value is None else f"Literal[{value}]", f"Of torch's DataLoader: {why}.")


# ---- types, as they are written ------------------------------------------------------------------


def _written(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _union(arguments)
    if origin is Literal:
        return f"Literal[{', '.join(json.dumps(word) for word in arguments)}]"
    if origin is collections.abc.Sequence:
        return f"Sequence[{', '.join(map(_written, arguments))}]"
    if origin is os.PathLike or hint is os.PathLike:
        return "os.PathLike[str]"
    if arguments:
        return f"{hint.__name__}[{', '.join(map(_written, arguments))}]"
    return "None" if hint is types.NoneType else str(hint.__name__)


def _union(parts: Iterable[Any]) -> str:
    written = list(dict.fromkeys(map(_written, parts)))
    return " | ".join([*(part for part in written if part != "None"), *(["None"] if "None" in written else [])])


# ---- files -----------------------------------------------------------------------------------------


def module(name: str, about: str, doc: str, keywords: Iterable[Keyword], imports: Mapping[str, str]) -> str:
    """The text of a module that holds one TypedDict.

    Args:
        name: of the class.
        about: the module's docstring, a sentence.
        doc: the docstring of the class, a sentence.
        imports: name -> the module that it is imported from, for types of our own.
    """
    body = []
    for keyword in keywords:
        body += [f"    {keyword.name}: {keyword.type}", *_docstring(keyword.doc)]
    text = "\n".join(body)
    is_used = {"Any": ", Any]" in text, "Literal": "Literal[" in text, "TypedDict": True}
    words = [word for word, used in is_used.items() if used]
    lines = [
        f'"""{about}',
        "",
        "Written by `scripts/keywords.py` from the tables of settings; to change it, change those.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        *(["import os"] if "os." in text else []),
        *(["from collections.abc import Sequence"] if "Sequence[" in text else []),
        f"from typing import {', '.join(words)}",
        "",
        *(f"from {place} import {imported}" for imported, place in imports.items()),
        "",
        "",
        f"class {name}(TypedDict, total=False):",
        f'    """{doc}"""',
        "",
        text,
    ]
    return _formatted("\n".join(lines) + "\n")


def _docstring(doc: str) -> list[str]:
    text = doc.replace("\\", "\\\\")
    wrapped = textwrap.wrap(f'"""{text}', 113, break_long_words=False, break_on_hyphens=False)
    if len(wrapped) == 1:
        return [f'    {wrapped[0]}"""']
    return [*(f"    {line}" for line in wrapped), '    """']


def _formatted(text: str) -> str:
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(PACKAGE / "keywords.py"), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def modules() -> dict[Path, str]:
    """Every file that this script writes, with the text that it should have."""
    return {
        PACKAGE / "config" / "keywords.py": module(
            "FitKeywords",
            "FitKeywords: the keywords of `litscope.fit` and of all calls that train by its flags, for type checkers.",
            "Every flag of `litscope fit` but the data set, and every further name of one, with underscores.",
            fit_keywords(),
            {},
        ),
        PACKAGE / "models" / "keywords.py": module(
            "ClassifierKeywords",
            "ClassifierKeywords: the keywords of `litscope.Classifier`, for type checkers.",
            "The fields of `ClassifierSettings` but `arch`, and their further names.",
            keywords_of(ClassifierSettings, but="arch"),
            {},
        ),
        PACKAGE / "data" / "keywords.py": module(
            "DataKeywords",
            "DataKeywords: the keywords of `litscope.ClassificationData`, for type checkers.",
            "The fields of `DataSettings` but `dataset`, their further names, and words of torch's DataLoader.",
            [*keywords_of(DataSettings, but="dataset"), *words_of_torch()],
            {"Source": "litscope.data.sources.source", "Folds": "litscope.data.sources.splits"},
        ),
    }


def main(arguments: list[str]) -> int:
    """Write the files, or with --check compare them."""
    stale = {path: text for path, text in modules().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        if "--check" in arguments:
            print(f"{path.relative_to(ROOT)} is out of date; run: .venv/bin/python scripts/keywords.py")
        else:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
