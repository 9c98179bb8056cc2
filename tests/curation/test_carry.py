"""What was decided in one run, carried into the next: samples are found by their content, those of a file by key."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from small_runs import At, rows, small_fit

from litscope.curation.carry import Brought, carry, net_actions, read_actions
from litscope.data.content import UNCHECKED
from litscope.data.manifest import Manifest, build_manifest
from litscope.data.reading.digests import DIGEST_TYPE
from litscope.errors import ConfigError, RunError
from litscope.ledger.journal.actions import decisions, entries, request, submit
from litscope.rundir import RunDir


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run in which samples were discarded, relabelled and tagged."""
    run = RunDir(tmp_path_factory.mktemp("carry") / "decided")
    small_fit(run.path, epochs=1, callbacks=[At(2, lambda: decide(run))])
    return run


def decide(run: RunDir) -> None:
    for action in (
        request("discard", sample_id=[5, 6], key=["digits/00005", "digits/00006"]),
        request("relabel", sample_id=[7, 8], key=["digits/00007", "digits/00008"], label=["0", "1"]),
        request("reweight", sample_id=[9], key=["digits/00009"], weight=0.5),
        request("tag", sample_id=[10], key=["digits/00010"], tag="odd"),
        request("set", settings={"lr_scale": 0.5}),
    ):
        submit(run, action)


def test_what_changes_nothing_is_not_carried_on(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    labels = np.array([-1, 0, 1, 2, 2], np.int64)
    build_manifest(list("abcde"), labels, ["ant", "bee", "wasp"], splits=["train"] * 5).write(run.manifest)
    submit(run, request("relabel", sample_id=[0, 1, 2, 3, 4], label=["wasp", "ant", "bee", "wasp", "bee"]))
    submit(run, request("reweight", sample_id=[4, 1, 2], weight=0.5))
    submit(run, request("reweight", sample_id=[2], weight=1.0))
    relabel, reweight = net_actions(run)
    assert (relabel["sample_id"], relabel["key"], relabel["label"]) == ([0, 4], ["a", "e"], ["wasp", "bee"])
    assert (reweight["sample_id"], reweight["key"], reweight["weight"]) == ([1, 4], ["b", "e"], 0.5)


# ---- which sample is which ------------------------------------------------------------------


def manifest(**contents: str) -> Manifest:
    """A sample for each key, of class ant; a content is a letter, and none is a file that cannot be read."""
    made = build_manifest(list(contents), np.zeros(len(contents), np.int64), ["ant", "bee"])
    return made.with_content(pa.array([16 * c.encode() if c else None for c in contents.values()], DIGEST_TYPE))


def discards(*ids: int, then: Manifest | None) -> Brought:
    keys = [str(i) for i in ids] if then is None else then.keys[list(ids)].tolist()
    return Brought("old", [request("discard", sample_id=list(ids), key=keys)], then)


@pytest.mark.parametrize(
    ("now", "carried", "told"),
    [
        (manifest(a="A", b="B", c="C"), [0, 1, 2], "3 discarded"),
        (manifest(c="C", b="B", a="A"), [2, 1, 0], "3 discarded"),
        (manifest(x="C", y="A", b="B"), [1, 2, 0], "3 discarded; 2 were found under another key"),
        (manifest(a="B", b="A", c="C"), [1, 0, 2], "3 discarded; 2 were found under another key"),
        (
            manifest(a="A", b="X", c="C"),
            [0, 2],
            "2 discarded; 1 have another content under the same key, and are left out",
        ),
        (manifest(a="A", c="C"), [0, 1], "2 discarded; 1 of the samples are not in these data"),
        (
            manifest(a="X", d="Y"),
            [],
            "no sample changed; 2 of the samples are not in these data; 1 have another content",
        ),
        (manifest(a="", b="B", c="C"), [0, 1, 2], "3 discarded"),
    ],
)
def test_samples_of_a_run_are_found_by_their_content(now: Manifest, carried: list[int], told: str) -> None:
    actions, line = carry(discards(0, 1, 2, then=manifest(a="A", b="B", c="C", d="D")), now)
    assert [i for action in actions for i in action["sample_id"]] == carried
    assert [key for action in actions for key in action["key"]] == now.keys[carried].tolist()
    assert line.startswith(f"decisions of old: {told}")
    assert UNCHECKED not in line


def test_a_relabel_keeps_each_sample_s_label(tmp_path: Path) -> None:
    asked = request("relabel", sample_id=[0, 1, 2], key=["a", "b", "c"], label=["bee", "ant", "bee"])
    (action,), _ = carry(Brought("old", [asked], manifest(a="A", b="B", c="C")), manifest(c="C", a="A"))
    assert (action["sample_id"], action["key"], action["label"]) == ([1, 0], ["a", "c"], ["bee", "bee"])


def test_a_run_without_contents_is_matched_by_key_and_says_so() -> None:
    then = build_manifest(list("abc"), np.zeros(3, np.int64), ["ant", "bee"])
    (action,), line = carry(discards(0, 2, then=then), manifest(c="X", a="A"))
    assert action["sample_id"] == [1, 0]
    assert line == f"decisions of old: 2 discarded; {UNCHECKED}"


def test_samples_that_a_journal_names_and_the_run_does_not_have(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    run.recipe.write_text("{}")
    manifest(a="A", b="B").write(run.manifest)
    submit(run, request("discard", sample_id=[1, 999_999]))
    submit(run, request("reweight", sample_id=[10**12], weight=2))
    (discard,) = net_actions(run)
    assert discard["sample_id"] == [1]
    (action,), _ = carry(read_actions(str(run.path)), manifest(b="B"))
    assert action["sample_id"] == [0]


@pytest.mark.flag("--actions")
def test_a_new_run_starts_with_them(decided: RunDir, tmp_path: Path) -> None:
    run = small_fit(tmp_path / "new", actions=str(decided.path), limit_train_batches=None, epochs=1).run
    state = decisions(run, with_pending=False)
    assert state.discarded == {5, 6}
    assert (state.labels, state.weights, state.tags) == ({7: "0", 8: "1"}, {9: 0.5}, {"odd": {10}})
    assert not state.settings, "the rate of one run is not that of the next"
    assert {entry.answer["step"] for entry in entries(run) if entry.answer} == {0}
    assert not {5, 6} & set(rows(run.path, split="train")["sample_id"].to_pylist())


def test_a_file_with_keys_does_too(tmp_path: Path) -> None:
    file = tmp_path / "curated.jsonl"
    lines = [
        request("discard", sample_id=[900_000], key=["digits/00011"]),  # the ids are another manifest's
        request("relabel", sample_id=[1, 2], key=["digits/00012", "gone/00001"], label=["3", "4"]),
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = small_fit(tmp_path / "new", actions=str(file), epochs=1).run
    assert decisions(run).discarded == {11}
    assert decisions(run).labels == {12: "3"}


def test_the_answers_in_a_copied_journal_are_passed_over(decided: RunDir, tmp_path: Path) -> None:
    copied = tmp_path / "copied.jsonl"
    copied.write_bytes(decided.actions.read_bytes())
    assert b'"answers"' in copied.read_bytes()
    assert [action["what"] for action in read_actions(str(copied)).actions] == ["discard", "relabel", "reweight", "tag"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"id": "a", "what": "discard", "sample_id": [1]}', "has no `key`"),
        (f'{{"id": "a", "what": "discard", "key": ["x"], "sample_id": [1{400 * "0"}]}}', "more than 64 bits"),
        ("not json", "line 1 is not an action"),
        ('{"id": "a", "what": "relabel", "sample_id": [1], "key": ["digits/00001"], "label": "x"}', "not a class"),
        ('{"id": "a", "what": "disscard", "sample_id": [1], "key": ["digits/00001"]}', "Did you mean 'discard'"),
    ],
)
def test_a_file_that_cannot_be_carried_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "bad.jsonl").write_text(text + "\n")
    with pytest.raises(ConfigError, match=reason):
        small_fit(tmp_path / "run", actions=str(tmp_path / "bad.jsonl"))
    assert not (tmp_path / "run").exists()


def test_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="neither a run nor a file"):
        small_fit(tmp_path / "run", actions=str(tmp_path / "nothing"))


@pytest.mark.slow
@pytest.mark.flag("--split-seed")
def test_the_splits_may_have_a_seed_of_their_own(tmp_path: Path) -> None:
    def val(name: str, **flags: int) -> set[int]:
        small_fit(tmp_path / name, epochs=1, limit_val_batches=None, **flags)
        return set(rows(tmp_path / name, split="val")["sample_id"].to_pylist())

    assert val("a", seed=1, split_seed=5) == val("b", seed=2, split_seed=5)
    assert val("c", seed=2) == val("d", seed=1, split_seed=2)
