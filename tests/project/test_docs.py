"""The documentation keeps up with the code: every command, flag and signal is there, and every link leads somewhere."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from litscope.cli import COMMANDS
from litscope.config.fields import fields
from litscope.config.options import OPTIONS, all_flags
from litscope.defaults import METRICS
from litscope.ledger.schema import PART_SCHEMA, SIGNALS
from litscope.ledger.scoring.score_schema import SCORE_SCHEMA, SCORES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"])

sys.path.insert(0, str(ROOT / "scripts"))
import reference  # noqa: E402 - the script that writes docs/flags.md


def words(page: str) -> set[str]:
    """Everything between backticks on a page, and the words in it."""
    spans = re.findall(r"`([^`\n]+)`", (DOCS / page).read_text())
    return {*spans, *(word for span in spans for word in span.split())}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_section(command: str) -> None:
    assert f"## litscope {command}\n" in (DOCS / "commands.md").read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_documented(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):  # argparse ends the process after its help
        COMMANDS[command](["--help"])
    flags = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", capsys.readouterr().out)) - {"--no-"}
    missing = {flag for flag in flags if flag not in words("commands.md") | words("flags.md") | {"-h", "--help"}}
    assert not missing, f"{command}: {sorted(missing)} are neither in docs/commands.md nor in docs/flags.md"


def test_every_flag_is_documented() -> None:
    flags = {flag for field in fields() for flag in all_flags(field)} | {f for o in OPTIONS for f in o.flags}
    assert flags <= words("flags.md")


def test_written_pages_are_current() -> None:
    late = [page.name for page, text in reference.pages().items() if page.read_text() != text]
    assert not late, f"{', '.join(late)}: out of date; run: .venv/bin/python scripts/reference.py"


def test_every_flag_has_a_test_that_shows_its_effect() -> None:
    marked = reference.marked_tests()
    missing = [field.flags[0] for field in fields() if not reference.tests_of(field, marked)]
    missing += [option.flags[0] for option in OPTIONS if not any(flag in marked for flag in option.flags)]
    assert not missing, f"no test is marked @pytest.mark.flag for {', '.join(missing)}"


def test_marks_name_flags_that_exist() -> None:
    flags = {flag for field in fields() for flag in all_flags(field)} | {f for o in OPTIONS for f in o.flags}
    assert set(reference.marked_tests()) <= flags


def test_marks_are_found_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text(
        "@pytest.mark.flag('--a', '--b')\ndef test_one(): ...\n"
        "@pytest.mark.parametrize('v', [pytest.param(1, marks=pytest.mark.flag('--c'))])\ndef test_two(v): ...\n"
        "@mark.flag('a')\nclass TestK:\n    def test_three(self): ...\n    def helper(self): ...\n"
        "@pytest.mark.slow\ndef test_four(): ...\n"
    )
    assert reference.marked_tests(tmp_path) == {
        "--a": ["test_x.py::test_one", "test_x.py::test_three"],
        "--b": ["test_x.py::test_one"],
        "--c": ["test_x.py::test_two"],
    }


def test_every_signal_and_column_is_documented() -> None:
    assert {*SIGNALS, *PART_SCHEMA.names} <= words("ledger.md")


def test_every_score_is_documented() -> None:
    assert {*SCORES, *SCORE_SCHEMA.names} <= words("scores.md")


def test_every_metric_is_documented() -> None:
    assert set(METRICS) <= words("training.md")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as mkdocs and GitHub make them of plain words."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        if file.suffix == ".png":
            assert anchor in ("", "only-light", "only-dark"), f"{page.name}: the theme knows no scheme {anchor}"
            continue
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_definition_begins_with_one_colon(page: Path) -> None:
    """With two it is shown as text."""
    assert not re.findall(r"^::.*", page.read_text(), re.MULTILINE)


def test_pages_named_in_messages_exist() -> None:
    """Error messages and docstrings that send the reader to a page send to one that exists."""
    for source in (ROOT / "litscope").rglob("*.py"):
        for name, anchor in re.findall(r"\bdocs/([\w-]+\.md)(?:#([\w-]+))?", source.read_text()):
            assert (DOCS / name).exists(), f"{source.name} names docs/{name}"
            assert not anchor or anchor in anchors(DOCS / name), f"{source.name} names docs/{name}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_ranking_by_suspicion_is_asked_of_one_split(page: Path) -> None:
    """It is a rank in its split: ordered together, a validation sample stands high whose label nobody doubts."""
    for block in re.findall(r"^```(?:sh|sql)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for query in re.findall(r"select\b[^;\"]*by suspicion desc", block, re.IGNORECASE):
            assert "split =" in query, f"{page.name}: {query}"


def test_paths_named_in_the_architecture_exist() -> None:
    text = (DOCS / "architecture.md").read_text()
    named = set(re.findall(r"(?<![\w/.-])[\w-]+(?:/[\w-]+)*(?:\.py\b|/(?=[`\s]))", text))
    assert named >= {"training/fit.py", "rundir.py", "watch/"}, "the pattern finds paths"
    missing = {path for path in named if not any((root / path).exists() for root in (ROOT / "litscope", ROOT))}
    assert not missing, f"docs/architecture.md names {sorted(missing)}"


def test_every_page_is_in_the_navigation() -> None:
    nav = set(re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = {page.name for page in DOCS.glob("*.md")}
    assert nav == pages
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / "index.md").read_text()))
    assert linked == pages - {"index.md"}, "docs/index.md names every page"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("built") / "site"
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_needs_no_network(site: Path) -> None:
    pages = list(site.glob("*.html"))
    assert len(pages) > len(list(DOCS.glob("*.md")))
    for page in pages:
        tags = re.findall(r"<(?:script|img|link|iframe)\b[^>]+>", page.read_text())
        loaded = [tag for tag in tags if "//" in tag and 'rel="canonical"' not in tag]
        assert not loaded, f"{page.name} loads {loaded}"
        shown = re.sub(r"<[^>]+>", "", page.read_text())
        assert not re.search(r"--8 ?(<|&lt;)", shown), f"{page.name} shows the name of a file instead of the file"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None and "CI" not in os.environ, reason="there is no chromium")
def test_the_search_works_from_the_file_system(site: Path) -> None:
    look = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    address = f"file://{site / 'index.html'}?q=canaries"
    done = subprocess.run([*look, address], capture_output=True, text=True, check=False, timeout=180)
    found = re.search(r"(\d+) matching documents", done.stdout)
    assert found, done.stderr[-2000:]
    assert int(found[1]) >= 3, done.stderr[-2000:]
