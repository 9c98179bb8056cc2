"""`litscope ensemble`: what it joins is what its members say, and who may judge it is told honestly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.special import softmax
from small_runs import small_fit

import litscope
from litscope.cli import main
from litscope.data.manifest import Manifest
from litscope.errors import ConfigError, DataError, RunError
from litscope.evaluation.evaluate import evaluate
from litscope.evaluation.opened_run import open_run
from litscope.evaluation.predict import predict
from litscope.experiments.ensemble import ensemble
from litscope.experiments.ensemble_splits import joint_splits
from litscope.fusions import RULES, Fusion, Rule
from litscope.rundir import RunDir

QUICK: dict[str, Any] = {"num_workers": 0, "accelerator": "cpu"}
FIT: dict[str, Any] = {
    "batch_size": 64, "epochs": 2, "lr": 3e-3, "accelerator": "cpu", "logger": ["none"], "progress": False,
    "split_seed": 0, "num_workers": 0, "dropout_rate": 0.3,
}  # fmt: skip
SPLIT = {"test_split": 0.1, "val_split": 0.2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three networks of digits: two architectures, two image sizes, three seeds; one averages over flipped views."""
    base = tmp_path_factory.mktemp("members")
    few = {"dataset": "digits", "limit_train_batches": 8, **FIT, **SPLIT}
    small_fit(base / "a", {**few, "arch": "convnet", "seed": 1})
    small_fit(base / "b", {**few, "arch": "convnet", "seed": 2, "image_size": 12, "epochs": 1})
    small_fit(base / "c", {**few, "arch": "mlp", "hidden": [16], "seed": 3})
    return [base / name for name in "abc"]


def probabilities(run: Path, split: str) -> np.ndarray:
    table = predict(run, split=split, **QUICK).table
    return np.stack(
        [table[name].to_numpy() for name in table.column_names if name.startswith("p_") and name != "p_max"], 1
    )


def labels(run: Path, split: str) -> np.ndarray:
    manifest = Manifest.read(RunDir(run).manifest)
    return manifest.labels[manifest.ids(split)]


def by_hand(rule: Rule, p: np.ndarray, fusion: Fusion) -> np.ndarray:
    """The rules in numpy, from what `predict` says of each member: p (M, N, C)."""
    if rule == "mean":
        return p.mean(0)
    if rule == "median":
        middle = np.median(p, axis=0)
        return middle / middle.sum(1, keepdims=True)
    if rule == "vote":
        votes = np.eye(p.shape[2])[p.argmax(2)].sum(0)
        return (votes + p.mean(0)) / (len(p) + 1)
    weights = np.array(fusion.weights)[:, None, None]
    if rule == "weighted":
        return (weights * p).sum(0)
    z = np.log(p.astype(np.float64)) / np.array(fusion.temperatures)[:, None, None]
    return softmax(np.log((weights * softmax(z, axis=2)).sum(0)) / fusion.last_temperature, axis=1)


@pytest.mark.thorough
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "uncertainty_weighted"])
def test_what_is_joined_says_what_its_members_say_alone(runs: list[Path], tmp_path: Path, rule: Rule) -> None:
    found = ensemble(runs, rule, tmp_path / "joined", **QUICK)
    alone = np.stack([probabilities(run, "test") for run in runs])
    together = probabilities(tmp_path / "joined", "test")
    np.testing.assert_allclose(together, by_hand(rule, alone, found.fusion), atol=2e-5)
    np.testing.assert_allclose(together.sum(1), 1.0, atol=1e-5)
    measured = evaluate(tmp_path / "joined", "test", num_workers=0, accelerator="cpu")["metrics"]["test/accuracy"]
    assert measured == pytest.approx((together.argmax(1) == labels(runs[0], "test")).mean())


@pytest.mark.slow
def test_by_variance_each_sample_is_weighed_by_the_passes_of_dropout(runs: list[Path], tmp_path: Path) -> None:
    found = ensemble(runs, "uncertainty_weighted", tmp_path / "joined", **QUICK)
    opened = open_run(tmp_path / "joined", accelerator="cpu")
    data, _ = opened.find_data()
    _, passes = opened.parts(opened.data_of(data.source, data.ids("test"), num_workers=0))  # (T, M, N, C)
    assert passes.shape[:2] == (20, 3)
    assert passes.var(0).min() >= 0.0
    assert (passes.var(0).mean((1, 2)) > 1e-3).all()  # dropout moves each member
    z = passes.astype(np.float64) / np.array(found.fusion.temperatures)[:, None, None]
    z = z - z.mean(-1, keepdims=True)
    trust = 1 / np.maximum(z.var(0), 1e-3)
    expected = softmax((trust / trust.sum(0) * z.mean(0)).sum(0), axis=1)
    together = probabilities(tmp_path / "joined", "test")
    np.testing.assert_allclose(together, expected, atol=2e-5)
    one_by_one = predict(tmp_path / "joined", split="test", batch_size=7, **QUICK).table["p_max"].to_numpy()
    np.testing.assert_allclose(one_by_one, together.max(1), atol=2e-5)  # whatever the batch around a sample


@pytest.mark.slow
def test_the_order_of_the_runs_changes_nothing(runs: list[Path], tmp_path: Path) -> None:
    there, back = (ensemble(order, None, tmp_path / name, **QUICK) for order, name in ((runs, "1"), (runs[::-1], "2")))
    assert there.rule == back.rule == "stacked"
    assert there.fusion.weights == pytest.approx(back.fusion.weights[::-1], abs=1e-3)
    np.testing.assert_allclose(probabilities(tmp_path / "1", "test"), probabilities(tmp_path / "2", "test"), atol=1e-4)
    assert there.figures == pytest.approx(back.figures, abs=1e-4)


@pytest.mark.slow
def test_it_is_held_against_its_best_member(runs: list[Path], tmp_path: Path) -> None:
    found = ensemble(runs, "mean", tmp_path / "joined", **QUICK)
    label = labels(runs[0], "val")
    alone = np.stack([probabilities(run, "val") for run in runs])
    accuracy = (alone.argmax(2) == label).mean(1)
    assert found.judged == "val"
    assert found.num_judged == len(label)
    assert [member.figures["accuracy"] for member in found.members] == pytest.approx(accuracy.tolist())
    against = found.against["accuracy"]
    assert found.members[against.best_member].name == str(runs[accuracy.argmax()])
    own = (alone.mean(0).argmax(1) == label).mean()
    assert against.gain.value == pytest.approx(own - accuracy.max())
    assert against.gain.low <= against.gain.value <= against.gain.high
    lines = "\n".join(found.lines())
    assert f"accuracy {own:.4f}, best member {accuracy.max():.4f}" in lines
    told = json.loads((tmp_path / "joined" / "ensemble.json").read_text())
    assert told["against_best"]["accuracy"]["gain"] == pytest.approx(against.gain.value)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "pt2", "safetensors"])
def test_it_leaves_as_one_file_with_all_inside(runs: list[Path], tmp_path: Path, form: str) -> None:
    """The export checks itself against the run; here the ONNX file is run by hand as well."""
    ensemble(runs, "stacked", tmp_path / "joined", **QUICK)
    file = tmp_path / f"joined.{form}"
    assert litscope.export_model(tmp_path / "joined", file).checked.largest < 1e-4
    if form == "safetensors":
        images = np.zeros((3, 8, 8), np.uint8)
        one, other = (litscope.load(place, accelerator="cpu").predict(images) for place in (file, tmp_path / "joined"))
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
    if form != "onnx":
        return
    onnxruntime = pytest.importorskip("onnxruntime")
    opened = open_run(tmp_path / "joined", accelerator="cpu")
    data, _ = opened.find_data()
    images = data.source.reader.array[data.ids("test")]
    (told,) = onnxruntime.InferenceSession(str(file)).run(None, {"image": images.reshape(len(images), 8, 8, 1)})
    np.testing.assert_allclose(told, probabilities(tmp_path / "joined", "test"), atol=2e-5)


@pytest.mark.slow
def test_python_predicts_from_its_checkpoint_alone(runs: list[Path], tmp_path: Path) -> None:
    ensemble(runs, "stacked", tmp_path / "joined", **QUICK)
    file = shutil.copy(tmp_path / "joined" / "checkpoints" / "best.ckpt", tmp_path / "elsewhere.ckpt")
    torch.load(file, weights_only=True)
    model = litscope.Ensemble.load_from_checkpoint(file, accelerator="cpu")
    assert (model.num_members, model.fusion.rule) == (3, "stacked")
    opened = open_run(tmp_path / "joined", accelerator="cpu")
    data, _ = opened.find_data()
    images = torch.from_numpy(data.source.reader.array[data.ids("test")]).view(-1, 1, 8, 8)
    expected = probabilities(tmp_path / "joined", "test")
    batches = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(images, torch.zeros(len(images))), batch_size=50
    )
    found = model.predict(batches)
    np.testing.assert_allclose(found.probabilities, expected, atol=2e-5)
    assert found.names == [model.classes[k] for k in expected.argmax(1)]
    as_floats = model.predict([{"image": images.float() / 255}])
    np.testing.assert_allclose(as_floats.probabilities, expected, atol=2e-5)
    np.testing.assert_allclose(model.predict(images.view(-1, 8, 8).numpy()).probabilities, expected, atol=2e-5)
    with pytest.raises(DataError, match=r"S 8, not \(2, 1, 9, 9\)"):
        model.predict([torch.zeros(2, 1, 9, 9)])
    with pytest.raises(RunError, match="one network, and no ensemble"):
        litscope.Ensemble.load_from_checkpoint(RunDir(runs[0]).best_checkpoint)


# ---- who may judge -------------------------------------------------------------------------------


def manifest(splits: str, digests: list[int], groups: list[str] | None = None) -> Manifest:
    """Samples k0, k1, ... of one class each second; a, v, t and - name their splits."""
    count = len(splits)
    names = {"a": "train", "v": "val", "t": "test", "-": ""}
    table = pa.table(
        {
            "sample_id": np.arange(count),
            "key": [f"k{i}" for i in range(count)],
            "label": np.arange(count) % 2,
            "split": [names[split] for split in splits],
            **({} if groups is None else {"group": groups}),
        }
    )
    return Manifest(table, ("x", "y")).with_content(pa.array([bytes([d] * 16) for d in digests], pa.binary(16)))


def test_a_sample_that_a_member_was_trained_on_judges_nothing_whatever_it_is_called() -> None:
    base = manifest("aavvvtt", [0, 1, 2, 3, 4, 5, 6])
    other = manifest("vaatv-", [6, 0, 2, 4, 3, 9])  # in another order, under other keys
    found = joint_splits(base, [base, other])
    assert found.splits.tolist() == ["train", "train", "train", "val", "", "test", ""]
    assert found.spoilt == [0, 1]
    assert found.num_mixed == 2  # val of one and test of the other
    assert found.counts(base) == {"train": 3, "val": 1, "test": 1, "none": 2}


def test_a_group_of_which_a_member_has_seen_one_judges_nothing() -> None:
    base = manifest("avvv", [0, 1, 2, 3], ["p", "q", "q", "r"])
    other = manifest("av", [1, 0])
    assert joint_splits(base, [base, other]).splits.tolist() == ["train", "train", "train", "val"]


@pytest.mark.slow
def test_a_member_of_another_split_leaves_only_what_neither_has_seen(runs: list[Path], tmp_path: Path) -> None:
    settings = {
        "dataset": "digits",
        **FIT,
        **SPLIT,
        "limit_train_batches": 4,
        "epochs": 1,
        "arch": "convnet",
        "split_seed": 5,
    }
    small_fit(tmp_path / "other", settings)
    found = ensemble([runs[0], tmp_path / "other"], "mean", tmp_path / "joined", **QUICK)
    one, other = (Manifest.read(RunDir(run).manifest) for run in (runs[0], tmp_path / "other"))
    both = (one.splits == "val") & (other.splits == "val")
    assert found.num_judged == both.sum() < (one.splits == "val").sum()
    spoilt = ((other.splits == "train") & (one.splits != "train")).sum()
    assert [member.num_spoilt for member in found.members] == [0, spoilt]
    assert f"was trained on {spoilt} samples" in "\n".join(found.lines())
    joined = Manifest.read(RunDir(tmp_path / "joined").manifest)
    assert (joined.splits == "val").tolist() == both.tolist()
    assert not ((joined.splits == "test") & (other.splits == "train")).any()


# ---- members that do not fit, or are not whole ---------------------------------------------------


def fit_folder(folder: Path, names: list[str], run: Path) -> Path:
    """A run on a folder of images, with classes under these names: bright squares on the left or on the right."""
    from PIL import Image

    draws = np.random.default_rng(len(names[0]))
    for split, count in (("train", 20), ("val", 8)):
        for side, name in enumerate(names):
            for number in range(count):
                pixels = draws.integers(0, 60, (16, 16), np.uint8)
                pixels[4:12, 8 * side : 8 * side + 8] += 150
                path = folder / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    small_fit(run, {**FIT, "dataset": str(folder), "arch": "convnet", "epochs": 3})
    return run


@pytest.mark.slow
def test_classes_in_another_order_are_brought_into_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes of a run are those of its data in their own order; here one checkpoint has them the other way."""
    run = fit_folder(tmp_path / "sides", ["left", "right"], tmp_path / "run")
    checkpoint = torch.load(RunDir(run).best_checkpoint, weights_only=True)
    head = next(reversed([name for name in checkpoint["state_dict"] if name.endswith("weight")]))
    for name in (head, head.replace("weight", "bias")):
        checkpoint["state_dict"][name] = checkpoint["state_dict"][name].flip(0)
    checkpoint["litscope_samples"]["classes"].reverse()
    torch.save(checkpoint, tmp_path / "turned.ckpt")
    found = ensemble([run, tmp_path / "turned.ckpt"], "mean", tmp_path / "joined", **QUICK)
    images = sorted((tmp_path / "sides" / "val").rglob("*.png"))
    alone, together = (predict(place, images, **QUICK).table for place in (run, tmp_path / "joined"))
    np.testing.assert_allclose(together["p_left"].to_numpy(), alone["p_left"].to_numpy(), atol=1e-5)
    assert found.judged is None  # what the file was trained on is not known
    assert "not known" in "\n".join(found.lines()) or "seen in the training" in "\n".join(found.lines())
    with pytest.raises(ConfigError, match=r"turned.ckpt is a checkpoint alone.*Give the run"):
        ensemble([run, tmp_path / "turned.ckpt"], "stacked", tmp_path / "no", **QUICK)


def test_members_that_do_not_fit_are_refused(runs: list[Path], tmp_path: Path) -> None:
    small_fit(tmp_path / "iris", {"dataset": "iris", **FIT, **SPLIT, "arch": "mlp", "epochs": 1})
    with pytest.raises(DataError, match="do not take the same samples: kind is 'image' and 'table'"):
        ensemble([runs[0], tmp_path / "iris"], output=tmp_path / "no", **QUICK)
    with pytest.raises(ConfigError, match="named twice"):
        ensemble([runs[0], RunDir(runs[0]).best_checkpoint], output=tmp_path / "no", **QUICK)
    with pytest.raises(ConfigError, match="2 networks or more"):
        ensemble([runs[0]], output=tmp_path / "no", **QUICK)
    with pytest.raises(ConfigError, match="Did you mean 'stacked'"):
        ensemble(runs, "stackd", tmp_path / "no", **QUICK)
    with pytest.raises(RunError, match="already holds a run"):
        ensemble(runs, "mean", runs[0], **QUICK)
    assert not (tmp_path / "no").exists()


def test_a_damaged_member_is_named(runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[1], tmp_path / "b")
    file = RunDir(tmp_path / "b").best_checkpoint
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    for path in (tmp_path / "b" / "checkpoints").glob("epoch*.ckpt"):
        path.unlink()
    file.unlink()
    file.write_bytes(content)
    with pytest.raises(RunError, match=rf"{file.parent}.*is damaged"):
        ensemble([runs[0], tmp_path / "b"], output=tmp_path / "no", **QUICK)
    assert not (tmp_path / "no").exists()


def test_a_member_without_numbers_is_named(runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[1], tmp_path / "b")
    file = RunDir(tmp_path / "b").best_checkpoint
    checkpoint = torch.load(file, weights_only=True)
    for name, value in checkpoint["state_dict"].items():
        if name.endswith("weight"):
            value.fill_(float("nan"))
    for path in file.parent.glob("epoch*.ckpt"):
        path.unlink()
    file.unlink()
    torch.save(checkpoint, file)
    for rule in ("mean", "stacked"):
        with pytest.raises(RunError, match=rf"{tmp_path / 'b'} gives no numbers for .* samples"):
            ensemble([runs[0], tmp_path / "b"], rule, tmp_path / "no", **QUICK)
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_of_one_sample_nothing_is_learned_and_of_few_nothing_is_claimed(runs: list[Path], tmp_path: Path) -> None:
    for count in (1, 5):
        for name in "ab":
            shutil.copytree(runs["ab".index(name)], tmp_path / f"{name}{count}")
            known = Manifest.read(RunDir(tmp_path / f"{name}{count}").manifest)
            splits = known.splits.copy()
            splits[known.ids("val")[count:]] = "train"
            splits[splits == "test"] = "train"
            known.with_splits(splits).write(RunDir(tmp_path / f"{name}{count}").manifest)
    pair = [tmp_path / "a1", tmp_path / "b1"]
    with pytest.raises(ConfigError, match="--strategy stacked: only 1 sample validated every member"):
        ensemble(pair, "stacked", tmp_path / "no", **QUICK)
    found = ensemble(pair, None, tmp_path / "one", **QUICK)
    assert (found.rule, found.num_judged, found.against) == ("mean", 1, {})
    found = ensemble([tmp_path / "a5", tmp_path / "b5"], None, tmp_path / "five", **QUICK)
    assert (found.rule, found.num_judged) == ("stacked", 5)
    assert {against.verdict for against in found.against.values()} == {"undecided"}


@pytest.mark.slow
def test_a_strangers_record_of_a_member_is_refused(runs: list[Path], tmp_path: Path) -> None:
    ensemble(runs[:2], "stacked", tmp_path / "joined", **QUICK)
    file = RunDir(tmp_path / "joined").best_checkpoint
    for number, (change, reason) in enumerate(
        [
            (lambda c: c["hyper_parameters"]["joined"][0].pop("settings"), "no network of 10 classes"),
            (lambda c: c["hyper_parameters"]["joined"][0].update(order=[0] * 10), "in the order"),
            (lambda c: c["hyper_parameters"]["joined"][0]["view"].update(stored_size=-1), "what it is shown"),
            (lambda c: c["hyper_parameters"]["joined"].pop(), "has 2 weights, and there are 1 members|no place for"),
            (lambda c: c["litscope_fusion"].update(weights=[0.5, 0.3, 0.2]), "3 weights, and there are 2 members"),
            (lambda c: c["litscope_fusion"].update(rule="exec"), "none of mean"),
        ]
    ):
        checkpoint = torch.load(file, weights_only=True)
        change(checkpoint)
        torch.save(checkpoint, tmp_path / f"{number}.ckpt")
        with pytest.raises(RunError, match=reason):
            litscope.load(tmp_path / f"{number}.ckpt")


def test_an_ensemble_is_no_run_to_go_on_with(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joined = str(tmp_path / "joined")
    assert main(["ensemble", *map(str, runs[:2]), "--strategy", "mean", "-o", joined, "--accelerator", "cpu"]) == 0
    for words in (["fit", "--resume", joined], ["worst", joined], ["ensemble", joined, str(runs[2])]):
        capsys.readouterr()
        assert main(words) == 2
        assert str(runs[0]) in capsys.readouterr().err


# ---- folds ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_folds_of_a_cross_validation_are_members(in_tmp: Path) -> None:
    found = litscope.cv("digits", folds=2, **{**FIT, "test_split": 0.1, "arch": "convnet", "epochs": 1}, run_dir="cv")
    assert not found.is_at_once
    joined = ensemble("cv", None, "joined", **QUICK)
    assert [member.name for member in joined.members] == ["cv/fold-0", "cv/fold-1"]
    assert joined.rule == "mean"  # every sample but the test set's trained one of the two
    assert joined.judged == "test"
    alone = np.stack(
        [predict(f"cv/fold-{k}", split="test", checkpoint="last", **QUICK).table["p_3"].to_numpy() for k in (0, 1)]
    )
    together = predict("joined", split="test", **QUICK).table["p_3"].to_numpy()
    np.testing.assert_allclose(together, alone.mean(0), atol=2e-5)
    with pytest.raises(ConfigError, match="stacked: it is fitted on samples that validated every member"):
        ensemble(["cv"], "stacked", "no", **QUICK)


@pytest.mark.slow
def test_the_folds_of_mlps_in_one_run_are_members_too(in_tmp: Path) -> None:
    litscope.cv("iris", folds=3, accelerator="cpu", epochs=2, logger=["none"], progress=False, arch="mlp", run_dir="cv")
    joined = ensemble("cv", "vote", "joined", **QUICK)
    (member,) = joined.members
    assert member.num_networks == 3
    assert joined.judged is None
    one, other = (
        predict(run, split="train", checkpoint=which, **QUICK).table
        for run, which in (("cv/folds", "last"), ("joined", "best"))
    )
    assert one["prediction"] == other["prediction"]
