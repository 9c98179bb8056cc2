"""Write the parts of docs/ that the code decides: the tables of flags with their tests, of signals and of scores.

    python scripts/reference.py           write docs/flags.md and the tables in docs/ledger.md and docs/scores.md
    python scripts/reference.py --check   exit 1 if they are not what the code says

A test shows the effect of a flag if it carries `@pytest.mark.flag("batch_size", ...)` (or "--batch-size"). The marks
are read from the source, without importing the tests. `tests/project/test_docs.py` fails when a page is out of date.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from litscope.config.fields import GROUPS, fields, group_doc
from litscope.config.flags import reference_rows
from litscope.config.options import OPTIONS, all_flags
from litscope.config.section import Field
from litscope.ledger.schema import PART_SCHEMA, SIGNALS
from litscope.ledger.scoring.score_schema import SCORE_SCHEMA, SCORES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
MOST_TESTS = 3
"""How many tests of a flag the table names."""

HEAD = """# Flags

Every flag of `litscope fit`, with its effect and with tests that show the effect. `check`, `tune`, `cv`, `lr-find` and
`batch-size-find` take the same flags. The YAML key of a flag is its section and its name: `--lr` is
`training.lr`; further names work as keys and as Python keywords too (`learning_rate=`). How flags, files and
presets are put together is told in [Configuration](configuration.md).

This page is written by `scripts/reference.py` from the sections in `litscope/config/` and from the
marks in `tests/`.
"""

COLUMNS = {
    "sample_id": "Row number of the manifest; the same in every file of the run.",
    "step": "Optimizer steps completed before this batch.",
    "epoch": "From 0.",
    "split": "`train`, `val` or `test`, from the manifest.",
    "phase": "`train`: from the training step itself, on augmented images. `eval`: from an evaluation pass.",
    "label": "The class index that was used; negative without a label.",
}
"""The columns of a part that are not signals."""

SCORE_COLUMNS = {
    "sample_id": COLUMNS["sample_id"],
    "split": COLUMNS["split"],
    "label": "The class index that the scores are about; negative without a label.",
    "num_visits": "How many visits with this label were counted.",
}
"""The columns of the score table that are not scores."""


@cache
def marked_tests(folder: Path = ROOT / "tests") -> dict[str, list[str]]:
    """Flag -> the tests (`test_fit.py::test_name`) that are marked as showing its effect."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        for flag, test in _marks(ast.parse(path.read_text())):
            names = found.setdefault(flag, [])
            if f"{path.name}::{test}" not in names:
                names.append(f"{path.name}::{test}")
    return found


def _marks(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(flag, test) for every mark on a test, on its class or on one of its parameters."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        is_class = isinstance(node, ast.ClassDef)
        tests = [n.name for n in node.body if isinstance(n, ast.FunctionDef)] if is_class else [node.name]
        for decorator in node.decorator_list:
            for call in ast.walk(decorator):
                if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("mark.flag"):
                    names = [str(arg.value) for arg in call.args if isinstance(arg, ast.Constant)]
                    yield from ((_flag(name), test) for name in names for test in tests if test.startswith("test_"))


def _flag(name: str) -> str:
    """batch_size -> --batch-size"""
    return name if name.startswith("-") else "--" + name.replace("_", "-")


def tests_of(field: Field, marked: dict[str, list[str]]) -> list[str]:
    """The tests marked with any of a field's flags."""
    return list(dict.fromkeys(test for flag in all_flags(field) for test in marked.get(flag, ())))


def flags_page() -> str:
    """The text of docs/flags.md."""
    marked = marked_tests()
    rows = {key: (flags, values, default, meaning) for flags, key, values, default, meaning in reference_rows()}
    lines = [HEAD, "## This command", "", "| flag | effect | tests |", "|---|---|---|"]
    for option in OPTIONS:
        names = [test for flag in option.flags for test in marked.get(flag, ())]
        lines.append(f"| {_code(', '.join(option.flags))} | {_cell(option.doc)} | {_tests(names)} |")
    for group in GROUPS:
        lines += ["", f"## {group}", "", _cell(group_doc(group)), ""]
        lines += ["| flag | values | default | effect | tests |", "|---|---|---|---|---|"]
        for field in fields():
            if field.group == group:
                flags, values, default, meaning = rows[field.key]
                shown = f"`{default}`" if default else ""
                tests = _tests(tests_of(field, marked))
                lines.append(f"| {_code(flags)} | {_cell(values)} | {shown} | {_cell(meaning)} | {tests} |")
    return "\n".join(lines) + "\n"


def columns_table() -> str:
    """The columns of a part that are not signals."""
    lines = ["| column | type | meaning |", "|---|---|---|"]
    for field in PART_SCHEMA:
        if field.name not in SIGNALS:
            lines.append(f"| `{field.name}` | {_type(field.type)} | {COLUMNS[field.name]} |")
    return "\n".join(lines)


def signals_table() -> str:
    """The signals: one number per sample and visit each."""
    lines = ["| signal | type | unit | definition | from |", "|---|---|---|---|---|"]
    for signal in SIGNALS.values():
        label = "" if not signal.needs_label else " NaN without a label."
        meaning = _cell(signal.meaning) + label
        lines.append(f"| `{signal.name}` | {_type(signal.dtype)} | {signal.unit} | {meaning} | {signal.source} |")
    return "\n".join(lines)


def score_columns_table() -> str:
    """The columns of the score table that are not scores."""
    lines = ["| column | type | meaning |", "|---|---|---|"]
    for field in SCORE_SCHEMA:
        if field.name not in SCORES:
            lines.append(f"| `{field.name}` | {_type(field.type)} | {SCORE_COLUMNS[field.name]} |")
    return "\n".join(lines)


def scores_table() -> str:
    """The scores: one number per sample each."""
    lines = ["| score | type | unit | definition | from |", "|---|---|---|---|---|"]
    for score in SCORES.values():
        meaning = _cell(score.meaning)
        lines.append(f"| `{score.name}` | {_type(score.dtype)} | {score.unit} | {meaning} | {score.source} |")
    return "\n".join(lines)


def ledger_page(text: str) -> str:
    """docs/ledger.md with its tables put in anew."""
    return _with_tables(text, {"columns": columns_table(), "signals": signals_table()})


def scores_page(text: str) -> str:
    """docs/scores.md with its tables put in anew."""
    return _with_tables(text, {"scores": scores_table(), "score columns": score_columns_table()})


def _with_tables(text: str, tables: dict[str, str]) -> str:
    for name, table in tables.items():
        between = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        text, count = between.subn(lambda match, table=table: f"{match[1]}\n{table}\n\n{match[2]}", text)
        assert count == 1, f"the page needs one <!-- {name} --> ... <!-- end of {name} -->"
    return text


def pages() -> dict[Path, str]:
    """Every page that the code decides, with the text that it should have."""
    ledger, scores = DOCS / "ledger.md", DOCS / "scores.md"
    return {
        DOCS / "flags.md": flags_page(),
        ledger: ledger_page(ledger.read_text()),
        scores: scores_page(scores.read_text()),
    }


def main(arguments: list[str]) -> int:
    """Write the pages, or with --check compare them."""
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text() != text]
    if "--check" in arguments:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date; run: .venv/bin/python scripts/reference.py")
        return 1 if stale else 0
    for path in stale:
        path.write_text(pages()[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


def _cell(text: str) -> str:
    """Text that may stand in a table: no bare pipes or angle brackets."""
    return re.sub(r"(?<!\\)\|", r"\\|", text).replace("<", "&lt;")


def _code(flags: str) -> str:
    return " ".join(f"`{flag}`" for flag in flags.split(", "))


def _tests(names: list[str]) -> str:
    more = f" and {len(names) - MOST_TESTS} more" if len(names) > MOST_TESTS else ""
    return "<br>".join(f"`{name}`" for name in names[:MOST_TESTS]) + more


def _type(dtype: object) -> str:
    return "string" if str(dtype).startswith("dictionary") else str(dtype).replace("float", "float32")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
