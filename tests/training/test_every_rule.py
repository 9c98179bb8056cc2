"""Every rule of `--ensemble-strategy` in every stage of a run, held against numpy: train, validate, test, predict,
checkpoint, go on after a stop, export.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import log_softmax, logsumexp, softmax
from small_runs import DIGITS, At, rows, send, small_fit
from torch.utils.data import DataLoader, TensorDataset

import litscope
from litscope.data.manifest import Manifest
from litscope.data.sources.source import open_source
from litscope.errors import Interrupted
from litscope.evaluation.evaluate import evaluate
from litscope.evaluation.predict import predict
from litscope.evaluation.trained import load_network
from litscope.fusions import LEARNED, RULES, Rule
from litscope.ledger.views import sql
from litscope.live.records import epoch_rows
from litscope.models.forward import FUSION
from litscope.models.predictor import Predictor
from litscope.models.readout import READOUT
from litscope.rundir import RunDir

pytestmark = [pytest.mark.slow, pytest.mark.thorough]

Floats = npt.NDArray[np.float64]

THREE: dict[str, Any] = {name: value for name, value in DIGITS.items() if name not in ("arch", "dropout_rate")}
THREE |= {"archs": ["convnet", "mlp", "convnet"], "member_image_size": [8, 12, 8], "image_size": 8, "test_split": 0.2}
THREE |= {"limit_val_batches": None, "calibrate": "temperature", "num_threads": 1, "lr": 0.01}


def by_hand(rule: Rule, z: Floats, told: dict[str, Any]) -> Floats:
    """(N, C) log-probabilities of (M, N, C) logits, or of (T, M, N, C) of passes, as docs/ensembles.md says."""
    if rule == "uncertainty_weighted":
        z = z / np.array(told["temperatures"])[:, None, None]
        z = z - z.mean(-1, keepdims=True)
        trust = 1 / np.maximum(z.var(0), 1e-3)
        return np.asarray(log_softmax((trust / trust.sum(0) * z.mean(0)).sum(0), axis=1))
    p = softmax(z, axis=2)
    if rule == "median":
        middle = np.median(p, axis=0)
        return np.asarray(np.log(middle / middle.sum(1, keepdims=True)))
    if rule == "vote":
        votes = np.eye(p.shape[2])[p.argmax(2)].sum(0)
        return np.asarray(np.log((votes + p.mean(0)) / (len(p) + 1)))
    if rule == "mean":
        return np.asarray(np.log(p.mean(0)))
    weights = np.array(told["weights"])[:, None, None]
    if rule == "weighted":
        return np.asarray(np.log((weights * p).sum(0)))
    scaled = log_softmax(z / np.array(told["temperatures"])[:, None, None], axis=2)
    return np.asarray(log_softmax(logsumexp(scaled, b=weights, axis=0) / told["last_temperature"], axis=1))


def images_of_test(run: RunDir) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
    """(N, 1, 8, 8) uint8 of the test split, and their labels."""
    manifest, array = Manifest.read(run.manifest), open_source("digits").reader.array
    assert array is not None
    ids = manifest.ids("test")
    return torch.from_numpy(np.asarray(array[ids])).view(-1, 1, 8, 8), manifest.labels[ids]


@pytest.mark.parametrize("rule", RULES)
def test_it_says_in_every_stage_what_the_page_says(rule: Rule, tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", THREE, ensemble_strategy=rule)
    run, told = result.run, result.summary["ensemble"]["fusion"]
    checkpoint = torch.load(run.best_checkpoint, weights_only=True)
    assert checkpoint.get(FUSION) == (told if rule in LEARNED else None)
    assert (told["weights"] is not None, told["temperatures"] is not None) == (
        rule in ("weighted", "stacked"),
        rule in ("uncertainty_weighted", "stacked"),
    )
    x, label = images_of_test(run)
    network = load_network(run.best_checkpoint, Predictor).eval()
    with torch.no_grad():
        logits = network.parts(x).double().numpy()
    assert logits.shape == ((20,) if rule == "uncertainty_weighted" else ()) + (3, len(x), 10)
    log_p = by_hand(rule, logits, told)
    of_label = log_p[np.arange(len(x)), label]

    assert result.metrics["test/loss"] == pytest.approx(-of_label.mean(), rel=1e-4)
    assert result.metrics["test/accuracy"] == pytest.approx((log_p.argmax(1) == label).mean(), abs=1e-6)
    seen = rows(run.path, split="test")
    np.testing.assert_allclose(seen["loss"].to_numpy(), -of_label, atol=2e-3)
    again = evaluate(run.path, "test", raw=True, num_workers=0)["metrics"]
    assert again["test/loss"] == pytest.approx(-of_label.mean(), rel=1e-4)

    readout = checkpoint.get(READOUT)
    scale = 1.0 if readout is None else np.array(readout["scale"])
    expected = softmax(log_p * scale, axis=1)
    table = predict(run.path, split="test", num_workers=0).table
    found = np.stack([table[f"p_{name}"].to_numpy() for name in range(10)], 1)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    model = litscope.Ensemble.load_from_checkpoint(run.best_checkpoint)
    assert (model.num_members, model.fusion.rule) == (3, rule)
    loader = DataLoader(TensorDataset(x, torch.zeros(len(x))), batch_size=50)
    np.testing.assert_allclose(model.predict(loader).probabilities, expected, atol=2e-5)

    pytest.importorskip("onnxruntime")
    assert litscope.export_model(run.path, tmp_path / "model.onnx").checked.largest < 1e-4
    own = sql(run, "SELECT sample_id, name::VARCHAR n, value FROM custom WHERE split = 'test' ORDER BY sample_id, n")
    members = own["value"].to_numpy().reshape(len(x), 3)
    if rule in ("mean", "weighted"):  # whose answer for a label follows from what the ledger has of each member
        weights = np.full(3, 1 / 3) if told["weights"] is None else np.array(told["weights"])
        np.testing.assert_allclose(-np.log(members @ weights), seen.sort_by("sample_id")["loss"].to_numpy(), atol=2e-3)


@pytest.mark.parametrize("rule", RULES)
def test_it_goes_on_after_a_stop_bit_by_bit(rule: Rule, tmp_path: Path) -> None:
    whole = small_fit(tmp_path / "whole", THREE, ensemble_strategy=rule)
    with pytest.raises(Interrupted):
        small_fit(tmp_path / "cut", THREE, ensemble_strategy=rule, callbacks=[At(9, send(signal.SIGTERM))])
    cut = small_fit(tmp_path / "cut", {}, resume=str(tmp_path / "cut"))
    one, other = (torch.load(result.run.best_checkpoint, weights_only=True) for result in (whole, cut))
    assert one.get(FUSION) == other.get(FUSION)
    assert one.get(READOUT) == other.get(READOUT)
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())
    assert cut.summary["ensemble"] == whole.summary["ensemble"]
    assert cut.metrics == whole.metrics
    lines = [
        {name: value for name, value in epoch_rows(result.run)[-1].items() if name.startswith("val/")}
        for result in (whole, cut)
    ]
    assert lines[0] == lines[1]
    assert "val/accuracy_member_2" in lines[0]
