"""`litscope report`: what is in the file, that nothing in it can act, and that broken runs have one too."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from asked_runs import act, asked_run, write_images
from broken_runs import BROKEN, broken
from forked import run_cli
from left_folders import EVIL, cross_validated, searched
from many_samples import many_run

from litscope.cli import main
from litscope.errors import RunError
from litscope.rundir import RunDir, append_line, write_json, write_text
from litscope.studio.report.markup import element, page
from litscope.studio.report.report import Report, report

HEAVY = {"torch", "lightning", "torchvision", "timm", "torchmetrics", "matplotlib"}


class Read(HTMLParser):
    """A document as a browser would read it.

    Attributes:
        tags: all elements with their attributes.
        text: everything that is shown.
    """

    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(document)
        self.close()
        assert self._open == [], self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def ids(self) -> set[str]:
        return {str(attributes["id"]) for _, attributes in self.tags if "id" in attributes}


def read(found: Report) -> Read:
    """The report, which is asserted to be able to do nothing."""
    seen = Read(found.html)
    names = {tag for tag, _ in seen.tags}
    assert names.isdisjoint({"script", "link", "iframe", "object", "embed", "form", "base", "video", "audio"})
    for tag, attributes in seen.tags:
        assert not {name for name in attributes if name.startswith("on") or name == "style"}, (tag, attributes)
        for name in ("src", "href", "srcset", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/")), (tag, attributes)
    (policy,) = (a["content"] for t, a in seen.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    style = re.search(r"<style>(.*?)</style>", found.html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    return seen


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = asked_run(tmp_path / "runs" / "one", dataset=write_images(tmp_path / "images"))
    act(run, "discard", [2], why="it shows nothing")
    metrics = {"final": {"val/accuracy": 0.8}, "best": {"val/accuracy": 0.9, "train/accuracy": 1.0}}
    write_json(run.summary, {"status": "finished", "message": "", "monitor": "val/accuracy", "metrics": metrics})
    return run


def test_a_run_has_all_its_parts(run: RunDir, tmp_path: Path) -> None:
    found = report(str(run.path), tmp_path / "c")
    seen = read(found)
    assert (found.kind, found.folder) == ("run", run.path)
    parts = {"summary", "curves", "confusion", "classes", "calibration", "map", "suspects", "journal", "recipe"}
    assert parts < seen.ids()
    links = [str(attributes["href"])[1:] for tag, attributes in seen.tags if tag == "a"]
    assert set(links) <= seen.ids(), "every link leads somewhere"
    text = seen.text
    assert "finished" in text
    assert "Most often bee is taken for" not in text, "val has no mistakes"
    assert "3 samples, 100.00 % right" in text
    assert "given bee, believed wasp" in text
    assert "it shows nothing" in text
    assert "lr: 0.1" in text
    assert [line for line in found.missing if "Summary" not in line] == []
    images = [attributes for tag, attributes in seen.tags if tag == "img"]
    assert len(images) == 11, "all training samples but the discarded one"
    assert all(str(one["alt"]).startswith("train/") for one in images)
    assert len(found.to_bytes()) < 300_000


def test_every_plot_has_a_name_and_its_numbers(run: RunDir, tmp_path: Path) -> None:
    found = report(str(run.path), tmp_path / "c")
    seen = read(found)
    plots = [attributes for tag, attributes in seen.tags if tag == "svg" and attributes.get("role") == "img"]
    assert len(plots) >= 4
    assert all(str(one["aria-label"]) for one in plots)
    for whole in re.findall(r"<figure.*?</figure>", found.html, re.DOTALL):
        assert "<table" in whole or "beside it has the numbers" in whole, whole[:300]


def test_what_files_say_is_text(tmp_path: Path) -> None:
    notes: list[object] = [EVIL] * 15
    run = asked_run(tmp_path / "one", stem="<b>x</b>&", note=notes)
    act(run, "tag", [7], tag="a<script>b", who=EVIL, why=EVIL)
    act(run, "discard", [3], why=EVIL)
    write_text(run.recipe, f"data:\n  dataset: '{EVIL[:30]}'\n# {EVIL}\n")
    append_line(run.epoch_metrics, {"epoch": 4, "step": 50, "attempt": 1, f"val/{EVIL}": 0.5, "val/accuracy": 0.9})
    write_json(run.environment, {"host": EVIL, "command": "fit https://me:secret@host/x.tar?sig=abc"})
    seen = read(report(str(run.path), tmp_path / "c"))
    assert "<script>alert(1)</script>" in seen.text, "shown as it is"
    assert "\x1b" not in seen.text
    assert "x</b>&07.png" in seen.text
    assert "secret" not in seen.text


def test_names_that_are_no_unicode_are_shown_as_what_they_are(tmp_path: Path) -> None:
    found = Report("run", tmp_path, page("caf\udce9", "run", element("p"), [], ""), [])
    assert "<h1>caf" in found.to_bytes().decode()


@pytest.mark.thorough
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_run_has_a_report_that_says_what_is_missing(run: RunDir, tmp_path: Path, kind: str) -> None:
    broken(kind, run)
    found = report(str(run.path), tmp_path / "c")
    seen = read(found)
    for sentence in found.missing:
        assert sentence.partition(": ")[2][:40].replace("\n", " ") in seen.text.replace("\n", " ")
    if kind in ("no manifest", "half a manifest", "nothing but signals"):
        assert any(line.startswith("Suspects: ") for line in found.missing)


def test_a_run_that_trains_and_one_that_waits(tmp_path: Path) -> None:
    text = read(report(str(asked_run(tmp_path / "now").path), tmp_path / "c")).text
    assert "running" in text
    assert "The run has no summary" in text
    (tmp_path / "queued").mkdir()
    (tmp_path / "queued" / "jobs.jsonl").write_text('{"id": "17"}\n')
    seen = read(report(str(tmp_path / "queued"), tmp_path / "c"))
    assert "its job waits in the queue" in seen.text
    assert "nothing has been logged yet" in seen.text


def test_nothing_heavy_is_imported(run: RunDir, tmp_path: Path) -> None:
    code = f"""
import sys
from litscope.cli import main
assert main(["report", {str(run.path)!r}]) == 0
print(*sorted(set(sys.modules) & {HEAVY!r}))
"""
    environment = {**os.environ, "LITSCOPE_CACHE": str(tmp_path / "c")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[1].strip() == "", done.stdout


def test_the_command(run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run_cli("report", str(run.path), "--json")
    answer = json.loads(done.stdout)
    assert answer["run"] == str(run.path)
    assert answer["result"] == {
        "report": str(run.path / "report.html"),
        "kind": "run",
        "size_bytes": (run.path / "report.html").stat().st_size,
        "missing": [],
    }
    assert main(["report", str(run.path), "--output", str(tmp_path / "new" / "x.html")]) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'new' / 'x.html'}\n"
    for words, message in (
        (("nowhere",), "nowhere is not a folder"),
        ((str(tmp_path / "images"),), "is no run, and no folder of"),
        ((str(tmp_path / "runs"),), "It holds runs: one; give one of them."),
        ((str(run.path), "--output", "x.pdf"), "ends in .html"),
        ((str(run.path), "--output", "/proc/x.html"), "cannot be written"),
    ):
        assert main(["report", *words]) == 2
        assert message in capsys.readouterr().err


def test_a_search(tmp_path: Path) -> None:
    found = report(str(searched(tmp_path / "tune")))
    seen = read(found)
    assert {"history", "importance", "slices", "parallel", "trials", "recipe"} < seen.ids()
    assert found.kind == "search"
    assert found.missing == []
    assert "9 trials · 1 stopped early · 1 failed" in seen.text
    assert "the thick one is the best, trial 3" in seen.text
    assert "1 far worse are drawn at the edge" in seen.text
    assert "failed: the loss was NaN" in seen.text
    assert "  lr: 0.001" in seen.text
    labels = [str(attributes.get("aria-label")) for tag, attributes in seen.tags if tag == "svg"]
    assert "Importance: lr 0.70, augment 0.30." in labels


def test_a_search_that_is_not_over(tmp_path: Path) -> None:
    folder = searched(tmp_path / "tune", is_over=False)
    with (folder / "trials.jsonl").open("a") as file:
        file.write('{"number": 10, "sett')
    found = report(str(folder))
    assert ["not over" in line for line in found.missing] == [True]
    text = read(found).text
    assert "no best trial is known yet" in text
    assert "thick one" not in text
    write_text(folder / "tune.json", '{"metric": 1}')
    with pytest.raises(RunError, match=r"tune\.json cannot be read"):
        report(str(folder))


def test_a_cross_validation(tmp_path: Path) -> None:
    folder = cross_validated(tmp_path / "cv")
    found = report(str(folder))
    seen = read(found)
    assert found.kind == "cross-validation"
    assert {"folds", "probabilities", "confusion", "calibration", "doubted"} < seen.ids()
    assert "4 samples, 75.00 % right. Most often ant is taken for wasp: 1 time." in seen.text
    assert "fold 1: no sample of wasp" in seen.text
    assert "A temperature of 1.200" in seen.text
    (folder / "out-of-fold.parquet").write_bytes(b"PAR1")
    found = report(str(folder))
    assert ["out-of-fold.parquet cannot be read" in line for line in found.missing] == [True]
    (folder / "cv.json").unlink()
    with pytest.raises(RunError, match="not over"):
        report(str(folder))


def test_many_classes_and_samples_stay_small(tmp_path: Path) -> None:
    """The matrix of many classes is left out, and a map of many samples counts them in cells."""
    found = report(str(many_run(tmp_path / "many", 20_000, 3).path), tmp_path / "c")
    seen = read(found)
    assert "pairs that are confused most, of 1,000 classes" in seen.text
    assert "counted in cells" in seen.text
    assert len(found.to_bytes()) < 1_500_000
