"""ClassificationData under a real Trainer: what reaches the network, and exact resume at every stop."""

import contextlib
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from PIL import Image
from places import SUPPORT

from litscope.data.datamodule import ClassificationData
from litscope.data.sources.new import open_paths
from litscope.data.sources.source import open_source
from litscope.errors import ConfigError, DataError

CLASSES, PER_CLASS = ("cat", "dog"), 23


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """46 PNG files of 20 x 24 pixels in train/, 10 in val/, 8 in test/."""
    root, random = tmp_path_factory.mktemp("pets"), np.random.default_rng(0)
    for split, count in (("train", PER_CLASS), ("val", 5), ("test", 4)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                image = random.integers(0, 256, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(image).save(root / split / name / f"{number:02}.png")
    return root


def open_folder(folder, **kwargs):
    return ClassificationData(folder, **{"batch_size": 8, "num_workers": 0, "image_size": 16, **kwargs})


class Probe(L.LightningModule):
    """A tiny model that notes every batch it trains on: sample ids and a checksum of the pixels."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 2)
        self.seen, self.checked, self.keys = [], [], set()

    def note(self, batch):
        inputs = batch["image"] if "image" in batch else batch["features"]
        self.keys |= set(batch)
        return (self.current_epoch, tuple(batch["sample_id"].tolist()), inputs.double().sum().item())

    def training_step(self, batch, batch_idx):
        self.seen.append(self.note(batch))
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch, batch_idx):
        self.checked.append(self.note(batch))
        return batch["sample_id"]

    test_step = predict_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(path, *callbacks, **kwargs):
    return L.Trainer(
        **{
            "max_epochs": 3,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": path,
            "callbacks": list(callbacks),
            **kwargs,
        }
    )


class SaveAndStop(L.Callback):
    """Save a checkpoint in the given hook at the given optimizer step, then stop as a killed run would."""

    def __init__(self, hook, step, path):
        self.hook, self.step, self.path = hook, step, path

    def save(self, trainer, hook):
        if hook == self.hook and trainer.global_step == self.step and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)
            raise Killed

    def on_train_batch_end(self, trainer, *args):
        self.save(trainer, "batch")

    def on_validation_end(self, trainer, module):
        self.save(trainer, "validation")

    def on_train_epoch_end(self, trainer, module):
        self.save(trainer, "epoch")


class Killed(Exception):
    pass


def run(folder, path, *callbacks, ckpt=None, data=None, **kwargs):
    """Train; return what was seen. `data` are keywords of ClassificationData."""
    model = Probe()
    fitting = trainer(path, *callbacks, **kwargs)
    with contextlib.suppress(Killed):
        fitting.fit(model, datamodule=open_folder(folder, **(data or {})), ckpt_path=ckpt)
    return model


STREAM = {"cache": False}
STREAM_WITH_WORKERS = {"cache": False, "num_workers": 2}


class TestExactResume:
    """46 training samples in batches of 8: 6 steps an epoch."""

    @pytest.mark.thorough
    @pytest.mark.parametrize(
        ("data", "hook", "step"),
        [
            *(({}, "batch", step) for step in (1, 4, 6, 9, 12, 17)),
            *(({}, "validation", step) for step in (6, 12)),
            *(({}, "epoch", step) for step in (6, 12)),
            *((STREAM, hook, 6) for hook in ("batch", "validation", "epoch")),
            (STREAM, "batch", 9),
            *((STREAM_WITH_WORKERS, "batch", step) for step in (6, 9)),
        ],
    )
    def test_what_is_seen_equals_an_uninterrupted_run(self, folder, tmp_path, data, hook, step):
        data = {**data, "augment": "strong"}
        whole = run(folder, tmp_path, data=data).seen
        assert len(whole) == 18
        path = tmp_path / "stopped.ckpt"
        before = run(folder, tmp_path, SaveAndStop(hook, step, path), data=data).seen
        after = run(folder, tmp_path, ckpt=path, data=data).seen
        assert len(before) == step
        assert [seen[1:] for seen in before + after] == [seen[1:] for seen in whole]

    @pytest.mark.thorough
    @pytest.mark.parametrize(("hook", "step"), [("batch", 2), ("batch", 3), ("epoch", 3), ("batch", 5)])
    def test_with_fewer_batches_than_the_epoch_has(self, folder, tmp_path, hook, step):
        whole = run(folder, tmp_path, limit_train_batches=3).seen
        assert len(whole) == 9
        path = tmp_path / "stopped.ckpt"
        before = run(folder, tmp_path, SaveAndStop(hook, step, path), limit_train_batches=3).seen
        after = run(folder, tmp_path, ckpt=path, limit_train_batches=3).seen
        assert [seen[1:] for seen in before + after] == [seen[1:] for seen in whole]

    def test_stopped_by_max_steps_and_continued(self, folder, tmp_path):
        whole = run(folder, tmp_path, max_steps=15).seen
        path = tmp_path / "stopped.ckpt"
        before = run(folder, tmp_path, SaveAndStop("batch", 8, path), max_steps=8).seen
        after = run(folder, tmp_path, ckpt=path, max_steps=15).seen
        assert [seen[1:] for seen in before + after] == [seen[1:] for seen in whole]

    @pytest.mark.thorough
    @pytest.mark.parametrize("steps", [(4, 9), (6, 8), (6, 12)])
    def test_twice(self, folder, tmp_path, steps):
        whole = run(folder, tmp_path).seen
        first, second = tmp_path / "first.ckpt", tmp_path / "second.ckpt"
        parts = run(folder, tmp_path, SaveAndStop("batch", steps[0], first)).seen
        parts += run(folder, tmp_path, SaveAndStop("batch", steps[1], second), ckpt=first).seen
        parts += run(folder, tmp_path, ckpt=second).seen
        # After two saves on an epoch's last batch Lightning's own count of epochs is one too small, and it
        # trains one more (our checkpoints write its counters anew). What is seen until then is right.
        assert [seen[1:] for seen in parts[: len(whole)]] == [seen[1:] for seen in whole]
        assert len(parts) == len(whole) or steps == (6, 12)

    def test_when_the_model_asks_for_the_number_of_steps(self, folder, tmp_path):
        """Lightning then makes the loaders before it restores the loops, and a loader's own state is lost."""

        class Asks(Probe):
            def configure_optimizers(self):
                assert self.trainer.estimated_stepping_batches == 18
                return super().configure_optimizers()

        whole = run(folder, tmp_path).seen
        path = tmp_path / "stopped.ckpt"
        before = run(folder, tmp_path, SaveAndStop("batch", 9, path)).seen
        model = Asks()
        trainer(tmp_path).fit(model, datamodule=open_folder(folder), ckpt_path=path)
        assert [seen[1:] for seen in before + model.seen] == [seen[1:] for seen in whole]

    def test_the_state_counts_what_was_trained_on(self, folder, tmp_path):
        """Lightning must not ask for batches ahead; if it ever does, this fails first."""
        positions = []

        class Look(L.Callback):
            def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
                state = trainer.datamodule.state_dict()["train"]
                positions.append(state["epoch"] * 6 + state["batches_done"] == trainer.global_step)

        run(folder, tmp_path, Look(), data=STREAM_WITH_WORKERS)
        assert positions == [True] * 18

    @pytest.mark.parametrize("batch_size", [3, 5, 11])
    def test_another_batch_size_inside_an_epoch_keeps_what_is_left_of_it(self, folder, tmp_path, batch_size):
        path = tmp_path / "stopped.ckpt"
        before = run(folder, tmp_path, SaveAndStop("batch", 4, path)).seen
        data = open_folder(folder, batch_size=batch_size)
        data.regroups, model = True, Probe()
        trainer(tmp_path, max_epochs=1).fit(model, datamodule=data, ckpt_path=path)
        ids = [i for seen in (*before, *model.seen) for i in seen[1]]
        assert sorted(ids) == sorted(set(ids))
        assert len(ids) == 46
        assert max(len(seen[1]) for seen in model.seen) <= batch_size + 1
        assert data.is_regrouped

    @pytest.mark.parametrize("limits", [{}, {"limit_train_batches": 4}])
    def test_another_batch_size_inside_an_epoch_is_refused(self, folder, tmp_path, limits):
        """Where nobody asks for the next epoch's loader, and where the epoch would have had fewer samples."""
        path = tmp_path / "stopped.ckpt"
        run(folder, tmp_path, SaveAndStop("batch", 3, path), **limits)
        data = open_folder(folder, batch_size=9)
        data.regroups = bool(limits)
        with pytest.raises(ConfigError, match="samples_per_step: 8 then, 9 now"):
            trainer(tmp_path, **limits).fit(Probe(), datamodule=data, ckpt_path=path)

    def test_testing_a_checkpoint_does_not_move_the_next_training(self, folder, tmp_path):
        path = tmp_path / "stopped.ckpt"
        run(folder, tmp_path, SaveAndStop("batch", 4, path))
        data = open_folder(folder)
        trainer(tmp_path).test(Probe(), datamodule=data, ckpt_path=path, verbose=False)
        model = Probe()
        trainer(tmp_path).fit(model, datamodule=data)
        assert model.seen == run(folder, tmp_path).seen


class TestWhatReachesTheNetwork:
    def test_attributes(self, folder):
        data = open_folder(folder).open()
        assert data.open() is data
        assert (data.kind, data.num_classes, data.classes) == ("image", 2, CLASSES)
        assert (data.in_channels, data.image_size) == (3, 16)
        assert [len(ids) for ids in (data.train_ids, data.val_ids, data.test_ids)] == [46, 10, 8]
        mean, std = data.normalization
        assert np.allclose(mean, 0.5, atol=0.02)
        assert len(std) == 3

    @pytest.mark.parametrize("cache", [True, False])
    def test_validation_and_test_see_every_sample_once_untouched(self, folder, tmp_path, cache):
        data = open_folder(folder, augment="strong", mixup=1.0, cache=cache)
        model = Probe()
        fitting = trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0)
        fitting.fit(model, datamodule=data)
        assert model.keys == {"image", "label", "sample_id", "soft_label"}
        checked = [seen[1:] for seen in model.checked]
        assert [i for ids, _ in checked for i in ids] == data.val_ids.tolist()
        fitting.validate(model, datamodule=data, verbose=False)
        assert [seen[1:] for seen in model.checked] == checked + checked
        model.checked.clear()
        fitting.test(model, datamodule=data, verbose=False)
        assert [i for _, ids, _ in model.checked for i in ids] == data.test_ids.tolist()

    def test_cached_and_streamed_runs_see_the_same_pixels(self, folder, tmp_path):
        cached, streamed = (run(folder, tmp_path, data={"cache": cache}) for cache in (True, False))
        assert cached.seen == streamed.seen
        assert cached.checked == streamed.checked

    def test_a_pickled_data_module_holds_no_cached_pixels(self, folder):
        data = open_folder(folder, cache=True).open()
        assert len(pickle.dumps(data)) < data._opened.stored.rows.nbytes
        (first, *_), (again, *_) = data.val_dataloader(), pickle.loads(pickle.dumps(data)).val_dataloader()
        assert torch.equal(first["image"], again["image"])

    def test_clean_training_samples_come_in_order(self, folder):
        data = open_folder(folder).open()
        batches = list(data.dataloader_of(data.active_ids("train")))
        assert np.array_equal(torch.cat([batch["sample_id"] for batch in batches]), data.train_ids)
        image = data.evaluation_batch(batches[0])["image"]
        assert torch.allclose(image, batches[0]["image"] / 255)

    def test_prediction_sees_every_row(self, folder, tmp_path):
        data = open_folder(folder)
        model = Probe()
        trainer(tmp_path).predict(model, datamodule=data)
        assert [i for _, ids, _ in model.checked for i in ids] == list(range(64))

    def test_prediction_on_other_images(self, folder, tmp_path):
        data = open_folder(folder).open()
        paths = sorted((folder / "test").glob("*/*.png"))
        source = open_paths(paths[::-1], like=data.source)
        (batch,) = data.predict_dataloader(source)
        assert batch["sample_id"].tolist() == list(range(8))
        assert set(batch["label"].tolist()) == {-1}
        (in_order,) = data.test_dataloader()
        rows = {tuple(row.flatten().tolist()) for row in in_order["image"]}
        assert {tuple(row.flatten().tolist()) for row in batch["image"]} == rows

    def test_prediction_refuses_another_kind(self, folder):
        data = open_folder(folder).open()
        with pytest.raises(DataError, match="table with 4"):
            data.predict_dataloader(open_source("iris"))

    def test_overfitting_repeats_the_same_batches_and_validates_on_them(self, folder, tmp_path):
        model = run(folder, tmp_path, overfit_batches=2, num_sanity_val_steps=0, data={"augment": "none"})
        assert model.seen[:2] == [(0, *seen[1:]) for seen in model.seen[2:4]]
        assert len(model.seen) == 6
        assert [seen[1:] for seen in model.checked[:2]] == [seen[1:] for seen in model.seen[:2]]

    def test_large_images_are_stored_larger_than_they_are_seen(self, tmp_path):
        for name in CLASSES:
            (tmp_path / name).mkdir()
            for number in range(6):
                pixels = np.full((300, 400, 3), 10 * number, np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / f"{number}.jpg")
        data = ClassificationData(tmp_path, batch_size=4, image_size=224).open()
        assert next(iter(data.train_dataloader()))["image"].shape == (4, 3, 256, 256)
        batch = next(iter(data.dataloader_of(data.active_ids("train"))))
        assert data.evaluation_batch(batch)["image"].shape == (4, 3, 224, 224)
        assert data.training_batch(batch, 0, 0)["image"].shape == (4, 3, 224, 224)

    @pytest.mark.parametrize("cache", [True, False])
    def test_unreadable_images_keep_their_id_and_are_in_no_split(self, folder, tmp_path, cache):
        root = shutil.copytree(folder, tmp_path / "pets")
        (root / "train" / "cat" / "03.png").write_bytes(b"no image")
        data = open_folder(root, cache=cache).open()
        (bad,) = np.flatnonzero(["cat/03" in key and "train" in key for key in data.manifest.keys])
        assert data.report.unreadable_ids.tolist() == [bad]
        assert len(data.train_ids) == 45
        assert bad not in data.train_ids
        assert len(data.manifest) == 64
        with pytest.raises(DataError, match=r"03\.png"):
            open_folder(root, cache=cache, strict_data=True).open()

    def test_without_validation_samples_there_is_no_loader(self, tmp_path, folder):
        shutil.copytree(folder / "train", tmp_path / "pets")
        data = open_folder(tmp_path / "pets", val_split=0.0)
        assert data.val_dataloader() == data.test_dataloader() == []
        model = Probe()
        with pytest.warns(UserWarning, match="is zero"):
            trainer(tmp_path, max_epochs=1).fit(model, datamodule=data)
        assert len(model.seen) == 6


class TestOtherSources:
    def test_tables(self, tmp_path):
        data = ClassificationData("iris", batch_size=16, mixup=0.5)
        model = Probe()
        trainer(tmp_path, max_epochs=1).fit(model, datamodule=data)
        assert model.keys == {"features", "label", "sample_id", "soft_label"}
        assert (data.num_features, data.num_classes) == (4, 3)
        mean, std = data.normalization
        rows = data.source.reader.array[data.train_ids]
        assert np.allclose(mean, rows.mean(0))
        assert np.allclose(std, rows.std(0))

    def test_cutmix_on_a_table_is_an_error(self):
        with pytest.raises(ConfigError, match="mixup"):
            ClassificationData("iris", cutmix=1.0).open()

    def test_images_in_memory_need_no_cache(self, tmp_path):
        data = ClassificationData("digits", batch_size=64, cache_dir=str(tmp_path / "cache"), cache=True).open()
        assert (data.image_size, data.in_channels) == (8, 1)
        assert not (tmp_path / "cache").exists()
        batch = next(iter(data.train_dataloader()))
        assert batch["image"].shape == (64, 1, 8, 8)
        assert data.training_batch(batch, 0, 0)["image"].shape == (64, 1, 8, 8)

    @pytest.mark.parametrize("image_size", [6, 8, 32])
    def test_images_in_memory_are_seen_at_the_size_asked_for(self, image_size):
        data = ClassificationData("digits", image_size=image_size).open()
        batch = next(iter(data.val_dataloader()))
        assert data.evaluation_batch(batch)["image"].shape[-1] == image_size
        assert data.training_batch(batch, 0, 0)["image"].shape[-1] == image_size

    def test_characters_are_not_mirrored_but_clothes_and_photographs_are(self, folder):
        assert not ClassificationData("digits").open().flips
        assert open_folder(folder).open().flips
        clothes = open_source("digits")
        clothes.name = "fashion_mnist"
        assert ClassificationData(source=clothes).open().flips

    def test_either_a_dataset_or_a_source(self):
        with pytest.raises(ConfigError, match="either"):
            ClassificationData()

    @pytest.mark.slow
    def test_real_mnist(self, shared_data, tmp_path):
        data = ClassificationData("mnist", data_dir=str(shared_data), batch_size=256).open()
        assert (data.image_size, data.in_channels, data.num_classes) == (28, 1, 10)
        assert len(data.test_ids) == 10_000
        assert np.allclose(data.normalization[0], 0.1307, atol=0.005)
        batch = next(iter(data.train_dataloader()))
        assert data.training_batch(batch, 0, 0)["image"].shape == (256, 1, 28, 28)


def _fit_on_a_rank(folder, path, data):
    model = Probe()
    fitting = trainer(path, max_epochs=2, strategy="ddp", devices=2, limit_val_batches=0)
    fitting.fit(model, datamodule=open_folder(folder, **data))
    (path / f"rank{fitting.global_rank}.json").write_text(json.dumps(model.seen))


@pytest.mark.slow
class TestTwoRanks:
    """Two gloo processes, as Lightning's `ddp` starts them."""

    def test_each_epoch_is_shared_without_padding(self, folder, tmp_path):
        code = (
            "import sys; from pathlib import Path; import litscope\n"
            f"sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(SUPPORT)!r}]\n"
            "from test_datamodule import _fit_on_a_rank\n"
            f"_fit_on_a_rank(Path({str(folder)!r}), Path({str(tmp_path)!r}), dict(batch_size=4))\n"
        )
        script = tmp_path / "two_ranks.py"
        script.write_text(code)
        subprocess.run([sys.executable, str(script)], check=True, timeout=300, capture_output=True, cwd=tmp_path)
        seen = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
        assert len(seen[0]) == len(seen[1]) == 12
        alone = run(folder, tmp_path, max_epochs=2, data={"batch_size": 8}).seen
        for step, (one, two, both) in enumerate(zip(*seen, alone, strict=True)):
            assert sorted(one[1] + two[1]) == sorted(both[1]), step
            assert one[2] + two[2] == pytest.approx(both[2])
