"""What is learned of how a run's logits are read: kept with its weights, used by whatever predicts with them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from sklearn.metrics import f1_score, log_loss, precision_recall_curve, roc_auc_score
from small_runs import IRIS, small_fit

from litscope.claims import held
from litscope.cli import main
from litscope.errors import ConfigError, ModelError, RunError
from litscope.evaluation.calibrate import calibrate
from litscope.evaluation.evaluate import evaluate
from litscope.evaluation.model import load
from litscope.evaluation.opened_run import open_run
from litscope.evaluation.predict import predict
from litscope.ledger.journal.actions import submit
from litscope.ledger.journal.verbs import request
from litscope.ledger.queries import worst
from litscope.ledger.views import sql
from litscope.models.readout import READOUT
from litscope.rundir import RunDir
from litscope.seals import why_damaged

NAMES = ["no", "yes"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two classes that overlap, learned by heart by members with dropout: far too sure, so a temperature helps."""
    folder = tmp_path_factory.mktemp("two")
    random = np.random.default_rng(0)
    is_positive = random.random(1500) < 0.3
    rows = pd.DataFrame({"a": random.normal(is_positive, 1.0), "b": random.normal(size=1500)})
    rows["c"], rows["d"] = random.normal(size=(2, 1500))
    rows["label"] = np.where(is_positive, "yes", "no")
    rows.to_csv(folder / "data.csv", index=False)
    flags = {"dataset": str(folder / "data.csv"), "target": "label", "lr": 3e-2, "epochs": 40, "num_members": 2}
    flags["batch_size"] = 100  # of validation and test, which are the most, too
    small_fit(folder / "run", {**IRIS, **flags}, dropout_rate=0.2, val_split=0.4, test_split=0.4, monitor="train/loss")
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def of_split(run, split, **words):
    """(N, C) probabilities, (N,) labels, and the table, as `predict` gives them."""
    table = predict(run, split=split, **words).table
    probs = np.stack([table[f"p_{name}"].to_numpy() for name in NAMES], 1).astype(float)
    return probs / probs.sum(1, keepdims=True), np.array([NAMES.index(n) for n in table["label"].to_pylist()]), table


def kept_in(path):
    return torch.load(path, weights_only=True).get(READOUT)


def test_what_is_kept_counts_wherever_the_weights_predict(run, tmp_path, capsys):
    plain, label, _ = of_split(run, "test")
    val, val_label, _ = of_split(run, "val")
    assert main(["calibrate", str(run), "--threshold", "f1", "--coverage", "0.8"]) == 0
    out = capsys.readouterr()
    assert "none of 600 labels is tagged 'verified'" in out.out
    readout = kept_in(RunDir(run).best_checkpoint)
    temperature = 1 / readout["scale"][0]
    assert temperature > 1.2
    probs, label, table = of_split(run, "test")
    scaled = plain ** (1 / temperature)
    assert probs == pytest.approx(scaled / scaled.sum(1, keepdims=True), abs=1e-5)
    # The threshold, chosen on validation.
    val = val ** (1 / temperature)
    val /= val.sum(1, keepdims=True)
    precision, recall, _ = precision_recall_curve(val_label, val[:, 1])
    best = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
    assert f1_score(val_label, val[:, 1] >= readout["threshold"]) == pytest.approx(best)
    called = probs[:, 1] >= readout["threshold"]
    assert table["prediction"].to_pylist() == [NAMES[int(c)] for c in called]
    # The sets.
    scores = np.sort(1 - val[np.arange(len(val)), val_label])
    limit = scores[int(np.ceil((len(val) + 1) * 0.8)) - 1]
    sets = [[name for name, p in zip(NAMES, row, strict=True) if 1 - p <= limit + 1e-6] for row in probs]
    assert table["set"].to_pylist() == sets
    assert table["set_size"].to_pylist() == list(map(len, sets))
    # And what `evaluate` says of all that.
    found = evaluate(run)
    assert "read as kept with the weights: logits divided by" in capsys.readouterr().err
    assert found["metrics"]["test/accuracy"] == pytest.approx((called == label).mean())
    assert found["metrics"]["test/loss"] == pytest.approx(log_loss(label, probs), abs=1e-5)
    assert found["metrics"]["test/auroc"] == pytest.approx(roc_auc_score(label, probs[:, 1]), abs=1e-6)
    assert found["confusion_matrix"][1][1] == int((called & (label == 1)).sum())
    assert found["quality"]["threshold"]["true_positives"] == int((called & (label == 1)).sum())
    assert found["quality"]["conformal"]["mean_set_size"] == pytest.approx(np.mean([len(s) for s in sets]))
    before = found["quality"]["calibration"]["before"]
    assert before["nll"] == pytest.approx(log_loss(label, plain), abs=1e-5)
    assert found["quality"]["figures"]["nll"]["value"] < before["nll"]
    # Lightning-free, in memory, in another batch size, from the file alone.
    shutil.copy(RunDir(run).best_checkpoint, tmp_path / "alone.ckpt")
    model = load(tmp_path / "alone.ckpt")
    rows = pd.DataFrame(np.random.default_rng(1).normal(size=(9, 4)), columns=list("abcd"))
    said = model.predict(rows, batch_size=2)
    again = load(run).predict(rows)
    assert said.names == again.names
    assert said.probabilities == pytest.approx(again.probabilities, abs=1e-6)
    assert said.names == [NAMES[int(p >= readout["threshold"])] for p in said.probabilities[:, 1]]


@pytest.mark.slow
def test_without_it_all_is_as_it_was(run):
    plain, before = of_split(run, "test")[0], evaluate(run)
    calibrate(run, threshold="recall:0.9", coverage=0.9)
    assert of_split(run, "test", raw=True)[0] == pytest.approx(plain)
    raw = evaluate(run, raw=True)
    assert raw["metrics"] == before["metrics"]
    assert raw["quality"] == before["quality"]
    assert raw["readout"] is None
    # What is asked for now counts instead, and nothing is written.
    kept = kept_in(RunDir(run).best_checkpoint)
    asked = evaluate(run, calibrate="vector")
    assert asked["quality"]["calibration"]["method"] == "vector"
    assert "threshold" not in asked["quality"]
    with_other = evaluate(run, coverage=0.5)["quality"]
    assert with_other["conformal"]["asked"] == 0.5
    assert with_other["threshold"]["aim"] == "recall:0.9"
    assert with_other["calibration"]["method"] == "temperature"
    assert kept_in(RunDir(run).best_checkpoint) == kept
    assert calibrate(run, remove=True).readout is None
    assert evaluate(run) == before
    assert kept_in(RunDir(run).best_checkpoint) is None


def test_the_file_is_whole_under_both_its_names_and_all_else_in_it_stays(run):
    before = torch.load(RunDir(run).best_checkpoint, weights_only=True)
    last = RunDir(run).last_checkpoint.read_bytes()
    found = calibrate(run)
    names = [path for path in RunDir(run).checkpoints.glob("*.ckpt") if path.name not in ("last.ckpt", "previous.ckpt")]
    assert len(names) == 2
    assert found.checkpoint in names
    assert all(kept_in(path)["method"] == "temperature" and why_damaged(path) is None for path in names)
    after = torch.load(RunDir(run).best_checkpoint, weights_only=True)
    assert after.keys() - before.keys() == {READOUT}
    assert all(torch.equal(value, after["state_dict"][name]) for name, value in before["state_dict"].items())
    assert RunDir(run).last_checkpoint.read_bytes() == last
    # A process that was killed between the two names: the next one mends it.
    alias = RunDir(run).best_checkpoint
    alias.unlink()
    torch.save(before, alias)
    calibrate(run, "vector")
    assert kept_in(alias)["method"] == "vector"


@pytest.mark.slow
def test_what_it_takes_the_place_of_is_told(run):
    assert not any("in place of" in note for note in calibrate(run, coverage=0.9).notes)
    evaluate(run, record=True)
    told = calibrate(run, "none", threshold="f1").notes
    assert told[-2].startswith("in place of what was kept: logits divided by")
    assert told[-1].startswith("what --record has kept is of the weights and the readout of before.")
    assert told[-1].endswith(f"litscope evaluate {run} --record (each --split that was recorded)")
    assert not any("in place of" in note for note in calibrate(run, "none", threshold="f1").notes)


def test_a_damaged_checkpoint_stays_as_it_is(run):
    for path in RunDir(run).checkpoints.glob("*.ckpt"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    best = RunDir(run).best_checkpoint.read_bytes()
    with pytest.raises(RunError, match="is damaged"):
        calibrate(run)
    assert RunDir(run).best_checkpoint.read_bytes() == best


def test_a_run_that_trains_is_left_alone(run):
    start = "from litscope.claims import held; from litscope.rundir import RunDir; import sys, time\n"
    code = start + "with held(RunDir(sys.argv[1])): print('in', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(run)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(RunError, match=r"being trained.*calibrate it when it has ended"):
            calibrate(run)
        other.kill()
    assert kept_in(RunDir(run).best_checkpoint) is None
    with held(RunDir(run)):
        pass


def test_only_verified_labels_count_where_there_are_enough(run):
    val = sql(RunDir(run), "SELECT sample_id FROM manifest WHERE split = 'val' ORDER BY sample_id")[
        "sample_id"
    ].to_pylist()
    submit(RunDir(run), request("tag", tag="verified", sample_id=val[:50]))
    few = calibrate(run)
    assert not few.readout.fitted_on.are_verified
    assert few.notes[0].startswith("only 50 of 600")
    submit(RunDir(run), request("tag", tag="verified", sample_id=val[:250]))
    enough = calibrate(run)
    assert (enough.readout.fitted_on.are_verified, enough.readout.fitted_on.num_samples) == (True, 250)
    assert [note.split(":")[0] for note in enough.notes] == ["in place of what was kept"]
    assert enough.readout.fitted_on.digest != few.readout.fitted_on.digest
    assert enough.readout.scale != few.readout.scale


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"method": "heat"}, "temperature, vector or none"),
        ({"method": "none"}, "leaves nothing to learn"),
        ({"threshold": "recall:95"}, "recall:0.95"),
        ({"coverage": 2.0}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_learned_is_refused_and_nothing_kept(run, words, told):
    with pytest.raises(ConfigError, match=told):
        calibrate(run, **words)
    assert kept_in(RunDir(run).best_checkpoint) is None


def test_an_aim_that_no_threshold_reaches_is_refused(run):
    table = predict(run, split="val").table
    surest = table["key"].to_pylist()[int(table["p_yes"].to_numpy().argmax())]
    ids = sql(RunDir(run), f"SELECT sample_id FROM manifest WHERE key = '{surest}'")["sample_id"].to_pylist()
    submit(RunDir(run), request("relabel", sample_id=ids, label="no"))
    with pytest.raises(ConfigError, match="no threshold reaches it on 600 validation samples"):
        calibrate(run, threshold="precision:1.0")
    assert kept_in(RunDir(run).best_checkpoint) is None


@pytest.mark.slow
def test_a_threshold_needs_both_classes_and_one_positive_will_do(run):
    val = of_split(run, "val")[2]
    ids = dict(sql(RunDir(run), "SELECT key, sample_id FROM manifest").select(["key", "sample_id"]).to_pandas().values)
    positive = [ids[k] for k, n in zip(val["key"].to_pylist(), val["label"].to_pylist(), strict=True) if n == "yes"]
    submit(RunDir(run), request("relabel", sample_id=positive, label="no"))
    for aim in ("f1", "youden", "precision:0.1", "recall:0.1", "fpr:0.1"):
        with pytest.raises(ConfigError, match=r"600 validation samples, all of which are 'no'\. .* needs both"):
            calibrate(run, threshold=aim)
    assert evaluate(run, threshold="f1")["quality"]["threshold"]["threshold"] is None
    submit(RunDir(run), request("relabel", sample_id=positive[:1], label="yes"))
    for aim in ("f1", "youden", "recall:0.1"):
        assert 0 < calibrate(run, threshold=aim).readout.threshold < 1


@pytest.mark.slow
def test_a_rate_that_so_few_negatives_cannot_tell_is_said(run, capsys):
    told = "negatives among 600 validation samples are too few for one false positive at this rate, so none was allowed"
    found = calibrate(run, threshold="fpr:0.001")
    assert told in found.notes[-1]
    probs, label, _ = of_split(run, "val")
    assert not (probs[label == 0, 1] >= found.readout.threshold).any()
    evaluate(run, threshold="fpr:0.001")
    assert told in capsys.readouterr().err
    assert not [note for note in calibrate(run, threshold="fpr:0.01").notes if told in note]


def test_the_entropies_of_each_sample(run, tmp_path, capsys):
    calibrate(run, coverage=0.8)
    words = ["--output", str(tmp_path / "said.parquet"), "--record"]
    assert main(["evaluate", str(run), *words]) == 0
    said = pq.read_table(tmp_path / "said.parquet")
    probs, _, table = of_split(run, "test")
    assert said["key"].to_pylist() == table["key"].to_pylist()
    assert said["set"].to_pylist() == table["set"].to_pylist()
    assert said["p_yes"].to_numpy() == pytest.approx(table["p_yes"].to_numpy(), abs=1e-6)
    assert said["entropy"].to_numpy() == pytest.approx(entropy(probs, axis=1), abs=1e-5)
    # Of the members: what they say together is the mean, and each is read as that is.
    raw = of_split(run, "test", raw=True)
    parts = raw[2]["expected_entropy"].to_numpy() + raw[2]["mutual_information"].to_numpy()
    assert parts == pytest.approx(entropy(raw[0], axis=1), abs=1e-5)
    opened = open_run(run)
    data = opened.find_data()[0]
    _, logits = opened.parts(opened.data_of(data.source, data.ids("test")))
    scale = opened.predictor.readout.scale[0]
    assert scale < 0.9, "or there is nothing to see"
    each = softmax(scale * log_softmax(logits.astype(float), axis=2), axis=2)
    expected = entropy(each, axis=2).mean(0)
    assert said["expected_entropy"].to_numpy() == pytest.approx(expected, abs=1e-5)
    disagree = entropy(each.mean(0), axis=1) - expected
    assert said["mutual_information"].to_numpy() == pytest.approx(disagree, abs=1e-5)
    # Beside the scores.
    first = worst(RunDir(run), 3, split="test", by="mutual_information")
    best = np.sort(said["mutual_information"].to_numpy())[::-1][:3]
    assert [row["mean"] for row in first] == pytest.approx(best)
    rows = sql(RunDir(run), "SELECT key, predictive_entropy, set_size FROM samples WHERE split = 'test'")
    assert dict(zip(rows["key"].to_pylist(), rows["set_size"].to_pylist(), strict=True)) == dict(
        zip(said["key"].to_pylist(), said["set_size"].to_pylist(), strict=True)
    )
    capsys.readouterr()
    assert main(["scores", str(run), "--split", "test", "--sort=-predictive_entropy", "-n", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"][0]["predictive_entropy"] == pytest.approx(
        said["entropy"].to_numpy().max()
    )


def test_what_is_recorded_is_what_predict_says(run):
    """With a threshold, that decides the class, and sets that are drawn for."""
    calibrate(run, threshold="recall:0.95", coverage=0.8, conformal="aps", by_class=True)
    evaluate(run, record=True)
    _, label, said = of_split(run, "test")
    names = (
        "key, measured_pred_name, measured_p_pred, measured_label_name, measured_p_label, conformal_set, measured_by"
    )
    kept = sql(RunDir(run), f"SELECT {names} FROM samples WHERE split = 'test'").to_pandas().set_index("key")
    kept = kept.loc[said["key"].to_pylist()]
    assert kept["measured_pred_name"].tolist() == said["prediction"].to_pylist()
    p = np.stack([said["p_no"].to_numpy(), said["p_yes"].to_numpy()], 1)
    pred = np.array([NAMES.index(name) for name in said["prediction"].to_pylist()])
    assert (pred != p.argmax(1)).any(), "or the threshold decides nothing"
    rows = np.arange(len(p))
    assert kept["measured_p_pred"].to_numpy() == pytest.approx(p[rows, pred], abs=1e-6)
    assert kept["measured_p_label"].to_numpy() == pytest.approx(p[rows, label], abs=1e-6)
    assert kept["measured_label_name"].tolist() == [NAMES[k] for k in label]
    assert [sorted(names) for names in kept["conformal_set"]] == [sorted(names) for names in said["set"].to_pylist()]
    assert "for recall:0.95, sets (aps by class) for a coverage of 0.8" in kept["measured_by"].iloc[0]


@pytest.mark.slow
def test_parts_are_read_as_a_stacked_ensemble_that_was_calibrated_reads_them(trained, tmp_path, capsys):
    """At the end of a run, too, so that what it has recorded is not outdated by its own calibration."""
    flags = {"dataset": str(trained.parent / "data.csv"), "target": "label", "lr": 1e-2, "epochs": 10}
    learned = {"ensemble_strategy": "stacked", "calibrate": "temperature", "coverage": 0.8}
    shares = {"val_split": 0.4, "test_split": 0.4, "monitor": "train/loss"}
    small_fit(tmp_path / "run", {**IRIS, **flags, "num_members": 2}, **learned, **shares)
    run = RunDir(tmp_path / "run")
    query = (
        "SELECT sample_id, predictive_entropy, expected_entropy, mutual_information, set_size, measured_p_label, "
        "is_measure_outdated FROM samples WHERE split = 'test' ORDER BY sample_id"
    )
    at_end = sql(run, query).to_pandas()
    assert not at_end.pop("is_measure_outdated").any()
    evaluate(run.path, record=True)
    again = sql(run, query).to_pandas()
    assert not again.pop("is_measure_outdated").any()
    pd.testing.assert_frame_equal(at_end, again, atol=1e-4)

    opened = open_run(run.path)
    fusion, readout = opened.predictor.fusion, opened.predictor.readout
    assert readout is not None
    data = opened.find_data()[0]
    _, logits = opened.parts(opened.data_of(data.source, data.ids("test")))
    own = log_softmax(logits / np.array(fusion.temperatures)[:, None, None], axis=2) / fusion.last_temperature
    each = softmax(readout.scale[0] * own, axis=2)
    weights = np.array(fusion.weights)
    expected = (weights[:, None] * entropy(each, axis=2)).sum(0)
    assert again["expected_entropy"].to_numpy() == pytest.approx(expected, abs=1e-5)
    mean = (weights[:, None, None] * each).sum(0)
    assert again["mutual_information"].to_numpy() == pytest.approx(entropy(mean, axis=1) - expected, abs=1e-5)


def test_a_csv_has_sets_that_can_be_read_back(run, tmp_path):
    calibrate(run, coverage=0.99)
    table = predict(run, split="test", output=tmp_path / "said.csv").table
    read = pd.read_csv(tmp_path / "said.csv")
    assert [json.loads(text) for text in read["set"]] == table["set"].to_pylist()


@pytest.mark.slow
def test_passes_with_dropout_disagree_and_come_out_alike_again(run):
    first, again = (predict(run, split="test", mc_dropout=4).table for _ in range(2))
    assert first.equals(again)
    assert evaluate(run, mc_dropout=4)["quality"]["figures"]["nll"]["value"] == pytest.approx(
        log_loss(of_split(run, "test")[1], of_split(run, "test", mc_dropout=4)[0]), abs=1e-5
    )
    without = predict(run, split="test").table
    assert first["mutual_information"].to_numpy().mean() > without["mutual_information"].to_numpy().mean()
    with pytest.raises(ConfigError, match="2 passes or more"):
        predict(run, split="test", mc_dropout=1)


def test_a_network_without_dropout_is_refused(tmp_path):
    small_fit(tmp_path / "run", {**IRIS, "epochs": 1})
    with pytest.raises(ModelError, match="one with --dropout-rate"):
        evaluate(tmp_path / "run", split="val", mc_dropout=4)


@pytest.mark.slow
def test_strangers_are_told_by_how_unsure_the_network_is(run, tmp_path):
    rows = pd.DataFrame(np.random.default_rng(1).normal(0.5, 0.1, (200, 4)), columns=list("abcd"))
    rows.to_csv(tmp_path / "strangers.csv", index=False)
    found = evaluate(run, ood=tmp_path / "strangers.csv")["ood"]
    probs = of_split(run, "test")[0]
    other = predict(run, tmp_path / "strangers.csv").table
    truth = np.repeat([0, 1], [len(probs), 200])
    expected = {
        "p_max": roc_auc_score(truth, -np.append(probs.max(1), other["p_max"].to_numpy())),
        "entropy": roc_auc_score(truth, np.append(entropy(probs, axis=1), other["entropy"].to_numpy())),
    }
    for name, value in expected.items():
        each = found["auroc"][name]
        assert each["value"] == pytest.approx(value, abs=1e-4)
        assert each["low"] < each["value"] < each["high"]
    assert set(found["auroc"]) == {"p_max", "entropy", "mutual_information"}
    assert (found["num_samples"], found["num_strangers"]) == (len(probs), 200)
