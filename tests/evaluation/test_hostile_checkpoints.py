"""Checkpoints from strangers: one sentence, nothing run, nothing reserved that is not there."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch
from small_runs import IRIS, small_fit

from litscope.cli import main
from litscope.errors import ModelError, RunError
from litscope.evaluation.trained import load_network
from litscope.models.classifier import Classifier
from litscope.models.networks.weights import read_weights
from litscope.models.predictor import Predictor


class _Evil:
    def __reduce__(self):
        return os.mkdir, ("was_run",)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier("mlp", num_classes=3, num_features=4)


def _content(classifier: Classifier, **changes) -> dict:
    content = {"state_dict": classifier.state_dict(), "hyper_parameters": dict(classifier.hparams)}
    return {**content, "pytorch-lightning_version": "2.6.0", **changes}


def _saved(path: Path, content) -> Path:
    torch.save(content, path)
    return path


KINDS = (Predictor, Classifier)


def refusal(path: Path) -> str:
    """What both, who predicts and who evaluates, are told of a checkpoint: a sentence for each."""
    told = []
    for kind in KINDS:
        with pytest.raises(RunError, match=r"a\.ckpt") as caught:
            load_network(path, kind)
        told.append(str(caught.value))
    assert "\n" not in "".join(told)
    return " ".join(told)


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_one_is_loaded(classifier, tmp_path, kind):
    again = load_network(_saved(tmp_path / "a.ckpt", _content(classifier)), kind)
    assert type(again) is kind
    for name, tensor in classifier.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("num_classes", "three"),
        ("num_classes", 10**12),
        ("num_classes", -1),
        ("num_classes", 4),
        ("num_classes", None),
        ("hidden", 10**15),
        ("hidden", [10**12]),
        ("arch", 7),
        ("arch", ["mlp"]),
        ("arch", "no such network"),
        ("mean", "abc"),
        ("mean", [0.0, 0.0, 0.0]),
        ("std", {"a": 1}),
        ("no_such_setting", 1),
    ],
)
def test_settings_that_are_none(classifier, tmp_path, setting, value):
    changed = {**classifier.hparams, setting: value}
    path = _saved(tmp_path / "a.ckpt", _content(classifier, hyper_parameters=changed))
    refusal(path)


@pytest.mark.parametrize("settings", [[1], None, "x", {1: 2}, {}])
def test_settings_of_another_kind(classifier, tmp_path, settings):
    refusal(_saved(tmp_path / "a.ckpt", _content(classifier, hyper_parameters=settings)))


WEIGHTS = {
    "a list": lambda state, first: [1],
    "numbers": lambda state, first: dict.fromkeys(state, 1),
    "one missing": lambda state, first: {name: state[name] for name in state if name != first},
    "one more": lambda state, first: {**state, "z": torch.zeros(1)},
    "another shape": lambda state, first: {**state, first: torch.zeros(2, 2)},
    "complex": lambda state, first: {**state, first: state[first].to(torch.complex64)},
    "sparse": lambda state, first: {**state, first: state[first].to_sparse()},
    "without data": lambda state, first: {**state, first: state[first].to("meta")},
    "names that are none": lambda state, first: {0: torch.zeros(1)},
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_are_none(classifier, tmp_path, kind):
    state = dict(classifier.state_dict())
    path = _saved(tmp_path / "a.ckpt", _content(classifier, state_dict=WEIGHTS[kind](state, next(iter(state)))))
    refusal(path)


def _bomb(good: Path, path: Path) -> None:
    """The same archive, compressed, with one storage of 50 MB of zeros."""
    with zipfile.ZipFile(good) as given, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for member in given.infolist():
            data = given.read(member)
            out.writestr(member.filename, bytes(50_000_000) if member.filename.endswith("data/0") else data)


def _make(kind: str, path: Path, classifier: Classifier) -> None:
    good = _saved(path.with_name("good.ckpt"), _content(classifier))
    whole = good.read_bytes()
    match kind:
        case "a pickle that runs":
            path.write_bytes(pickle.dumps(_Evil()))
        case "a pickle inside":
            _saved(path, _content(classifier, extra=_Evil()))
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(whole[: len(whole) // 2])
        case "one byte":
            path.write_bytes(whole[:1])
        case "a bomb":
            _bomb(good, path)
        case "text":
            path.write_text("hello\n" * 50)
        case "a picture":
            path.write_bytes(b"\x89PNG" + bytes(50))
        case "another zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("a.txt", "b")
        case "a tensor":
            _saved(path, torch.zeros(3))
        case "deep":
            path.write_bytes(b"\x80\x02" + b"]" * 100_000 + b".")
        case "cut in the old form":
            torch.save(_content(classifier), path, _use_new_zipfile_serialization=False)
            path.write_bytes(path.read_bytes()[:-20])


FILES = [
    "a pickle that runs",
    "a pickle inside",
    "empty",
    "cut",
    "one byte",
    "a bomb",
    "text",
    "a picture",
    "another zip",
]
FILES += ["a tensor", "deep", "cut in the old form"]


@pytest.mark.parametrize("kind", FILES)
def test_files_that_are_no_checkpoints(classifier, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    _make(kind, tmp_path / "a.ckpt", classifier)
    assert "weights_only" not in refusal(tmp_path / "a.ckpt")
    if kind != "a tensor":
        with pytest.raises(ModelError, match=r"a\.ckpt"):
            read_weights(tmp_path / "a.ckpt")
    assert not (tmp_path / "was_run").exists()


def test_a_bomb_says_what_it_promises(classifier, tmp_path):
    _make("a bomb", tmp_path / "a.ckpt", classifier)
    assert re.search(r"it promises 50,.* bytes and holds", refusal(tmp_path / "a.ckpt"))


def test_a_fifo_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a.ckpt")
    assert "not a file" in refusal(tmp_path / "a.ckpt")


def test_the_commands_end_with_a_sentence_and_code_2(classifier, tmp_path, capsys):
    run = small_fit(tmp_path / "run", IRIS).run.path
    for kind in ("a pickle that runs", "a bomb", "cut"):
        _make(kind, tmp_path / "a.ckpt", classifier)
        for command in (["evaluate", str(run)], ["predict", str(run), "--split", "test"]):
            assert main([*command, "--checkpoint", str(tmp_path / "a.ckpt")]) == 2
            said = capsys.readouterr()
            assert "Traceback" not in said.out + said.err
            assert "a.ckpt" in said.err
