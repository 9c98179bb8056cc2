"""The LightningModule with a plain L.Trainer: what it learns, logs, saves and restores."""

import copy
import json
import math
from typing import Any

import lightning.pytorch as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from sklearn.datasets import load_digits
from torch.utils._python_dispatch import TorchDispatchMode

from litscope import Classifier
from litscope.defaults import METRICS
from litscope.errors import ModelError
from litscope.models.learning.optim import build_optimizer
from litscope.models.learning.schedule import factor

NUM_TRAIN = 512


class Batches(torch.utils.data.Dataset):
    """Whole batches of digits, in a fixed order."""

    def __init__(self, ids: torch.Tensor, kind: str, **extra: torch.Tensor) -> None:
        pixels, labels = load_digits(return_X_y=True)
        features = torch.tensor(pixels[ids], dtype=torch.float32)
        self.name, self.values = (
            ("image", features.view(-1, 1, 8, 8) / 16) if kind == "image" else ("features", features)
        )
        self.labels, self.ids, self.extra = torch.tensor(labels[ids]), ids, extra

    def __len__(self) -> int:
        return math.ceil(len(self.ids) / 64)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        if i >= len(self):
            raise IndexError(i)
        part = slice(64 * i, 64 * i + 64)
        more = {name: value[part] for name, value in self.extra.items()}
        return {self.name: self.values[part], "label": self.labels[part], "sample_id": self.ids[part], **more}


class Digits(L.LightningDataModule):
    """What the classifier reads off a datamodule, and loaders."""

    num_classes = 10

    def __init__(self, kind: str = "image", **extra: torch.Tensor) -> None:
        super().__init__()
        self.kind, self.extra = kind, extra
        if kind == "image":
            self.in_channels, self.image_size, self.normalization = 1, 8, ([0.3], [0.37])
        else:
            self.num_features, self.normalization = 64, ([4.9] * 64, [6.0] * 63 + [0.0])

    def train_dataloader(self):
        return self._loader(torch.arange(NUM_TRAIN), **self.extra)

    def val_dataloader(self):
        return self._loader(torch.arange(NUM_TRAIN, NUM_TRAIN + 300))

    test_dataloader = predict_dataloader = val_dataloader

    def _loader(self, ids, **extra):
        return torch.utils.data.DataLoader(Batches(ids, self.kind, **extra), batch_size=None)


class Rates(L.Callback):
    """The rate that each step used."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append(optimizer.param_groups[0]["lr"])


def trainer(**settings: Any) -> L.Trainer:
    return L.Trainer(
        **{
            "max_epochs": 2,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            **settings,
        }
    )


# Lightning would rather have loaders with workers, and a validation.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]


@pytest.mark.flag("num_classes", "arch")
@pytest.mark.parametrize(
    ("arch", "kind"),
    [
        ("convnet", "image"),
        (None, "table"),
        pytest.param("mlp", "image", marks=pytest.mark.slow),
        pytest.param("mlp", "table", marks=pytest.mark.slow),
    ],
)
def test_learns_digits_from_a_datamodule(arch, kind):
    L.seed_everything(0, verbose=False)
    model, runner = Classifier(arch, lr=5e-3), trainer(max_epochs=6)
    runner.fit(model, datamodule=Digits(kind))
    metrics = {name: float(value) for name, value in runner.callback_metrics.items()}
    assert set(metrics) == {f"{phase}/{name}" for phase in ("train", "val") for name in METRICS}
    assert metrics["val/accuracy"] > 0.8
    assert metrics["val/auroc"] > 0.96
    tested = runner.test(model, datamodule=Digits(kind), verbose=False)[0]
    assert tested["test/accuracy"] == pytest.approx(metrics["val/accuracy"])
    confusion = model.confusion("test")
    assert float(confusion.diagonal().sum() / confusion.sum()) == pytest.approx(tested["test/accuracy"])
    assert model.confusion("train").sum() == NUM_TRAIN
    assert Classifier(num_classes=3, num_features=2).confusion("val") is None


@pytest.mark.parametrize("arch", ["convnet", "mlp"])
def test_overfits_a_small_batch(arch):
    L.seed_everything(0, verbose=False)
    model = Classifier(arch, num_classes=10, in_channels=1, image_size=8, mean=[0.3], std=[0.37]).train()
    batch = Digits()._loader(torch.arange(32)).dataset[0]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(40):
        loss = model.training_step(batch, 0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


# ---- a step ----------------------------------------------------------------------------------


def table_model(**settings: Any) -> Classifier:
    L.seed_everything(0, verbose=False)
    return Classifier(**{"arch": "mlp", "num_classes": 3, "num_features": 4, **settings})


def table_batch(**extra: torch.Tensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "features": torch.randn(8, 4, generator=generator),
        "label": torch.arange(8) % 3,
        "sample_id": torch.arange(100, 108),
        **extra,
    }


def test_step_output_is_what_the_ledger_is_promised():
    model, batch = table_model(), table_batch()
    output = model.training_step(batch, 0)
    assert set(output) == {"loss", "logits", "sample_loss", "label", "sample_id"}
    assert output["loss"].requires_grad
    assert not any(value.requires_grad for name, value in output.items() if name != "loss")
    assert torch.equal(output["sample_id"], batch["sample_id"])
    assert output["sample_id"].dtype == torch.int64
    logits = model(batch["features"])
    torch.testing.assert_close(output["logits"], logits.detach())
    torch.testing.assert_close(
        output["sample_loss"], F.cross_entropy(logits, batch["label"], reduction="none").detach()
    )
    torch.testing.assert_close(output["loss"], F.cross_entropy(logits, batch["label"]))


@pytest.mark.flag("mixup")
def test_soft_labels_are_what_training_minimises():
    soft = torch.softmax(torch.randn(8, 3), 1)
    model, batch = table_model(), table_batch(soft_label=soft)
    output = model.training_step(batch, 0)
    logits = model(batch["features"])
    torch.testing.assert_close(output["loss"], F.cross_entropy(logits, soft))
    torch.testing.assert_close(
        output["sample_loss"], F.cross_entropy(logits, batch["label"], reduction="none").detach()
    )


@pytest.mark.flag("label_smoothing", "loss")
@pytest.mark.parametrize("settings", [{"label_smoothing": 0.2}, {"loss": "focal"}, {"class_weights": [1.0, 2.0, 3.0]}])
def test_validation_reports_plain_cross_entropy(settings):
    model, batch = table_model(**settings), table_batch()
    plain = F.cross_entropy(model(batch["features"]), batch["label"])
    assert not torch.isclose(model.training_step(batch, 0)["loss"], plain)
    model.validation_step(batch, 0)
    assert model.phase("val").compute(torch.device("cpu"))["val/loss"] == pytest.approx(plain.item(), abs=1e-6)


def test_padding_rows_count_nowhere():
    model, batch = table_model(), table_batch()
    padded = {**batch, "sample_id": torch.where(torch.arange(8) < 5, batch["sample_id"], -1)}
    alone = {name: value[:5] for name, value in batch.items()}
    for step, phase in ((model.training_step, "train"), (model.validation_step, "val")):
        torch.testing.assert_close(step(padded, 0)["loss"], step(alone, 0)["loss"])
        assert step(padded, 0)["label"].tolist()[5:] == [-1, -1, -1]
        model.phase(phase).compute(torch.device("cpu"))
        assert int(model.confusion(phase).sum()) == 15


def test_a_users_batch_without_ids():
    batch = table_batch()
    del batch["sample_id"]
    assert table_model().training_step(batch, 0)["sample_id"].tolist() == [-1] * 8
    model = table_model()
    model.training_step(batch, 0)
    assert model.phase("train").compute(torch.device("cpu"))
    assert int(model.confusion("train").sum()) == 8


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_channels_last_and_fused_train_as_plain_torch_does(optimizer):
    """Fused kernels walk through memory: weights, gradients and moments must lie in the same order."""
    L.seed_everything(0, verbose=False)
    model = Classifier("convnet", num_classes=10, in_channels=3, image_size=12, lr=0.01, optimizer=optimizer)
    plain = copy.deepcopy(model.net).to(memory_format=torch.contiguous_format)
    ours = build_optimizer(model.net, optimizer, lr=0.01)
    theirs = build_optimizer(plain, optimizer, lr=0.01, fused=False)
    for _ in range(4):
        x, y = torch.rand(16, 3, 12, 12), torch.randint(0, 10, (16,))
        ours.zero_grad()
        theirs.zero_grad()
        model.training_step({"image": x, "label": y}, 0)["loss"].backward()
        F.cross_entropy(plain(x), y).backward()
        ours.step()
        theirs.step()
    torch.testing.assert_close(model.net.state_dict(), plain.state_dict(), atol=2e-4, rtol=1e-3)


def test_bytes_are_scaled_like_floats():
    model = Classifier(
        "convnet", num_classes=3, in_channels=3, image_size=8, mean=[0.5] * 3, std=[0.2, 0.3, 0.4]
    ).eval()
    image = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(model(image), model(image.float() / 255))
    normalised = (image.float() / 255 - 0.5) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    torch.testing.assert_close(model(image), model.net(normalised))


class NoReadBack(TorchDispatchMode):
    """Fails where a tensor's value comes to the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert "_local_scalar_dense" not in str(func), "a step reads the device"
        assert "nonzero" not in str(func), "a step waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("settings", [{}, {"loss": "focal", "label_smoothing": 0.1, "class_weights": [1.0, 2.0, 0.5]}])
def test_no_step_reads_a_tensor_back(settings, monkeypatch):
    monkeypatch.setattr("litscope.models.metrics.FOLD_ROWS", 10)
    model = table_model(**settings)
    with NoReadBack():
        for _ in range(4):
            model.training_step(table_batch(), 0)["loss"].backward()
            model.validation_step(table_batch(), 0)


@pytest.mark.flag("precision")
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_precisions(precision):
    model, runner = Classifier("mlp", lr=3e-3), trainer(precision=precision)
    runner.fit(model, datamodule=Digits())
    batch = next(iter(Digits().train_dataloader()))
    batch["image"] = batch["image"].to(model.dtype)
    output = model.training_step(batch, 0)
    assert output["sample_loss"].dtype == (torch.float64 if precision == "64-true" else torch.float32)
    assert float(runner.callback_metrics["val/accuracy"]) > 0.5


# ---- with Lightning's own parts --------------------------------------------------------------


@pytest.mark.flag("monitor", "early_stopping")
def test_monitors_work_in_lightnings_callbacks(tmp_path):
    best = ModelCheckpoint(tmp_path, "best", monitor="val/auroc", mode="max", auto_insert_metric_name=False)
    stop = EarlyStopping("train/loss", mode="min", patience=1)
    runner = trainer(enable_checkpointing=True, callbacks=[best, stop])
    model = Classifier("mlp", lr=3e-3)
    runner.fit(model, datamodule=Digits())
    assert best.best_model_path == str(tmp_path / "best.ckpt")
    assert math.isfinite(float(best.best_model_score))
    assert math.isfinite(float(stop.best_score))


def test_predicts_probabilities_by_id():
    model, runner = Classifier("mlp", lr=3e-3), trainer()
    runner.fit(model, datamodule=Digits())
    outputs = runner.predict(model, datamodule=Digits())
    probs = torch.cat([output["probs"] for output in outputs])
    torch.testing.assert_close(probs.sum(1), torch.ones(300))
    assert torch.equal(torch.cat([output["pred"] for output in outputs]), probs.argmax(1))
    assert torch.equal(torch.cat([output["sample_id"] for output in outputs]), torch.arange(NUM_TRAIN, NUM_TRAIN + 300))


def test_sanity_check_leaves_no_trace():
    model, runner = Classifier("mlp", scheduler_type="plateau"), trainer(num_sanity_val_steps=2, max_epochs=1)
    runner.fit(model, datamodule=Digits())
    assert int(model.confusion("val").sum()) == 300
    assert model.schedule.best == pytest.approx(float(runner.callback_metrics["val/loss"]))


@pytest.mark.flag("compile")
def test_compile_wraps_the_net_in_place(monkeypatch):
    seen = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, *_, **__: seen.append(self))
    for compile in (True, False):
        model = Classifier("mlp", compile=compile)
        trainer(max_epochs=1).fit(model, datamodule=Digits())
    assert len(seen) == 1
    assert type(seen[0]).__name__ == "Mlp"


# ---- checkpoints -----------------------------------------------------------------------------


def test_checkpoint_is_plain_and_rebuilds(tmp_path):
    weights = tmp_path / "start.pt"
    torch.save(Classifier("convnet", num_classes=4, in_channels=1, image_size=8).net.state_dict(), weights)
    model, runner = Classifier("convnet", weights=weights, class_weights=[1] * 10), trainer(max_epochs=1)
    runner.fit(model, datamodule=Digits())
    assert any("left out" in note for note in model.notes)
    runner.save_checkpoint(tmp_path / "last.ckpt")
    weights.unlink()

    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    json.dumps(content["hyper_parameters"])
    again = Classifier.load_from_checkpoint(tmp_path / "last.ckpt").eval()
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(again(x), model.eval()(x))
    assert again.hparams["num_classes"] == 10
    assert again.hparams["class_weights"] == [1.0] * 10
    assert torch.equal(again.mean, model.mean)
    assert model.hparams["weights"] == str(weights)  # the logger of the first run was told the truth


@pytest.mark.slow
def test_checkpoint_without_an_image_size_rebuilds(tmp_path):
    """With a user's own loaders nobody says how large the images are."""
    model, runner = Classifier("resnet18", num_classes=10, in_channels=1), trainer(max_epochs=1, limit_val_batches=0)
    runner.fit_loop.max_batches = 1
    runner.fit(model, datamodule=Plain())
    assert model.hparams["image_size"] is None
    runner.save_checkpoint(tmp_path / "last.ckpt")
    again = Classifier.load_from_checkpoint(tmp_path / "last.ckpt").eval()
    x = torch.rand(2, 1, 40, 40)
    assert torch.equal(again(x), model.eval()(x))


@pytest.mark.slow
def test_small_stem_and_normalisation_come_back_with_the_checkpoint(tmp_path):
    model = Classifier("resnet18", num_classes=3, in_channels=3, image_size=16, mean=[0.1, 0.2, 0.3], std=[1, 2, 3])
    runner = trainer()
    runner.strategy.connect(model)
    runner.save_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    other = Classifier("resnet18", num_classes=3, in_channels=3, image_size=128)
    assert other.hparams["stem"] == "standard"
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    other.on_load_checkpoint(content)
    other.load_state_dict(content["state_dict"])
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(other.eval()(x), model.eval()(x))


@pytest.mark.flag("resume")
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lion"])
def test_resumed_at_an_epochs_end_is_bit_equal(tmp_path, optimizer):
    class SaveFirst(L.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 0:
                trainer.save_checkpoint(tmp_path / "first.ckpt")

    def run(callbacks, resume=None):
        L.seed_everything(0, verbose=False)
        model = Classifier("mlp", lr=0.01, optimizer=optimizer)
        trainer(max_epochs=2, callbacks=callbacks).fit(model, datamodule=Digits(), ckpt_path=resume)
        return model

    whole = run([SaveFirst()])
    resumed = run([], tmp_path / "first.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert resumed.schedule.last_epoch == 16


@pytest.mark.flag("resume", "lr", "epochs", "weight_decay")
def test_resumed_with_other_settings_uses_them(tmp_path):
    class ScaleAndSave(L.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            pl_module.schedule.lr_scale = 0.5
            trainer.save_checkpoint(tmp_path / "first.ckpt")

    first = Classifier("mlp", lr=0.01, weight_decay=0.1, momentum=0.8, warmup_epochs=0.5)
    trainer(max_epochs=1, callbacks=[ScaleAndSave()]).fit(first, datamodule=Digits())

    rates = Rates()
    second = Classifier("mlp", lr=0.002, weight_decay=0.3, momentum=0.7, warmup_epochs=0.5)
    runner = trainer(max_epochs=4, callbacks=[rates])
    runner.fit(second, datamodule=Digits(), ckpt_path=tmp_path / "first.ckpt")
    assert rates.seen == pytest.approx([0.002 * 0.5 * factor("cosine", step, 32, 4) for step in range(8, 32)])
    group = runner.optimizers[0].param_groups[0]
    assert (group["weight_decay"], group["betas"], group["initial_lr"]) == (0.3, (0.7, 0.999), 0.002)
    step = next(iter(runner.optimizers[0].state.values()))["step"]
    assert int(step) == 32  # the moments came over


# ---- wrong use -------------------------------------------------------------------------------


class Plain(L.LightningDataModule):
    """A user's own datamodule, without the attributes."""

    def train_dataloader(self):
        return Digits().train_dataloader()


def test_unknown_number_of_classes_is_said():
    with pytest.raises(ModelError, match=r"pass Classifier\(num_classes=...\)"):
        trainer(limit_val_batches=0).fit(Classifier("mlp"), datamodule=Plain())
    with pytest.raises(ModelError, match="not built"):
        Classifier("mlp")(torch.zeros(1, 4))


def test_a_users_own_datamodule_with_facts_given():
    model = Classifier("mlp", num_classes=10, in_channels=1, image_size=8)
    runner = trainer(max_epochs=1, limit_val_batches=0)
    runner.fit(model, datamodule=Plain())
    assert set(runner.callback_metrics) == {f"train/{name}" for name in METRICS}
    assert float(model.mean) == 0.0


@pytest.mark.flag("num_classes")
def test_classes_that_the_data_do_not_have():
    with pytest.raises(ModelError, match="num_classes is 7, but the data have 10"):
        trainer().fit(Classifier("mlp", num_classes=7), datamodule=Digits())
