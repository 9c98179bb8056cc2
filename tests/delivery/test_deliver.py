"""A network that left the house says what it said in it: as each file, from each kind of data, by the lines that come
with it."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
import yaml
from PIL import Image, ImageOps
from small_runs import IRIS, small_fit

import litscope
from litscope.cli import main
from litscope.data.reading.images import centre_square, decode
from litscope.defaults import NETWORK_FORMATS
from litscope.delivery.check import largest_difference
from litscope.delivery.deliver import export_model
from litscope.delivery.formats import FORMATS
from litscope.delivery.inputs import random_inputs
from litscope.delivery.snippets import SQUARE, snippet
from litscope.errors import LitscopeError, RunError
from litscope.evaluation.opened_run import open_network
from litscope.models.readout import FittedOn, Readout, SetLimit
from litscope.training.kept_readout import keep

PAGE = Path(__file__).resolve().parents[2] / "docs" / "export.md"

ONNX = pytest.param("onnx", marks=pytest.mark.slow)
PT2 = pytest.param("pt2", marks=pytest.mark.slow)
"""The exporter of both takes seconds: of images `pt2` is in the fast suite, of tables none."""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run whose network sees the middle of what is stored, twice (--tta), with averaged weights; and its data."""
    base = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for k, name in enumerate(("dark", "light", "middle|")):
        (base / "data" / name).mkdir(parents=True)
        for i in range(9):
            noise = random.normal(60 + 60 * k, 40, (19, 22 + i, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noise).resize((160 + 20 * i, 150)).save(base / "data" / name / f"{i}.png")
    small_fit(
        base / "run",
        {**IRIS, "dataset": str(base / "data"), "arch": "convnet", "epochs": 1, "batch_size": 8},
        **{"image_size": 128, "tta": "flip", "ema_decay": 0.5, "cache": False, "val_split": 0.3, "precision": "32"},
    )
    return base / "run", base / "data"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of two members on a table with gaps, categories, moments and large numbers; and the table."""
    base, random = tmp_path_factory.mktemp("table"), np.random.default_rng(0)
    lines = ["size,colour,when,flag,far,label"]
    for i in range(80):
        size = "" if i % 9 == 0 else f"{random.normal(5 * (i % 2)):.3f}"
        colour = ("red", "green", "dark blue", "")[random.integers(4)]
        when = f"2024-0{1 + i % 8}-11 10:15:00"
        lines.append(f"{size},{colour},{when},{'true' if i % 3 else 'false'},{10**12 + i},{'ab'[i % 2]}")
    (base / "rows.csv").write_text("\n".join(lines) + "\n")
    small_fit(base / "run", IRIS, dataset=str(base / "rows.csv"), num_members=2, hidden=[8])
    return base / "run", base / "rows.csv"


def told_by(to: str, kind: Any, file: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray[Any, Any]:
    """The probabilities that the lines of a format find for new.jpg or new.csv in a folder."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(compile(snippet(to, kind, file), "snippet", "exec"), names)
    return np.asarray(names["p"])


@pytest.mark.thorough
@pytest.mark.parametrize("to", ["safetensors", "pt2", ONNX])
def test_an_image_is_judged_as_predict_judges_it(
    photographs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    """A large JPEG, which is decoded at a fraction of its size, and turned as its EXIF block says."""
    run, data = photographs
    found = export_model(run, tmp_path / f"model.{to}")
    assert found.checked.are_own
    assert found.checked.num_samples == 8  # those of validation
    turned = Image.new("RGB", (1, 1)).getexif()
    turned[0x0112] = 6
    Image.open(data / "light" / "3.png").resize((500, 420)).save(tmp_path / "new.jpg", exif=turned)
    wanted = litscope.load(run).predict([tmp_path / "new.jpg"]).probabilities
    # Pillow resizes with the rounding of its own: a level, here and there.
    assert told_by(to, "image", f"model.{to}", tmp_path, monkeypatch) == pytest.approx(
        wanted, abs=2e-3 if to == "onnx" else 1e-6
    )


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "kind",
    [
        *("1.png", "L.jpg", "L.png", "LA.png", "RGB.jpg", "RGBA.png", "RGBA.webp", "P.gif", "PA.png", "CMYK.jpg"),
        *("tRNS.png", "I;16.png", "I;16.tif", "F.tif"),
    ],
)
def test_the_lines_read_whatever_predict_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, mode: str
) -> None:
    """Deep, transparent, gray, of a palette, of print: the pixels are litscope's, none off by more than one."""
    source, ramp = kind.partition(".")[0], np.linspace(0, 1, 31 * 24, dtype=np.float32).reshape(31, 24)
    gray = (ramp * 255).astype(np.uint8)
    rgba = Image.fromarray(np.stack([gray, gray.T.reshape(31, 24), 255 - gray, gray[::-1]], axis=2))
    made = {
        "I;16": lambda: Image.fromarray((ramp * 65_535).astype(np.uint16)),
        "F": lambda: Image.fromarray(ramp),
        "PA": lambda: rgba.quantize(16),
        "tRNS": lambda: rgba.convert("L"),
    }.get(source, lambda: rgba.convert("RGB").convert(source) if "A" not in source else rgba.convert(source))()
    turned = Image.Exif()
    turned[0x0112] = 6
    file = tmp_path / kind
    made.save(file, **({"transparency": 99} if source == "tRNS" else {"exif": turned} if kind != "P.gif" else {}))
    shutil.copy(file, tmp_path / "new.jpg")
    monkeypatch.chdir(tmp_path)
    names = {"io": io, "np": np, "simplejpeg": simplejpeg, "Path": Path, "Image": Image, "ImageOps": ImageOps}
    names["about"] = {"input": {"size": 24, "mode": mode}}
    exec(compile(SQUARE, "SQUARE", "exec"), names)
    wanted = centre_square(decode(file, len(mode)))
    assert np.ptp(wanted) > 150
    found = np.asarray(names["square"]).reshape(wanted.shape)
    assert np.abs(found.astype(int) - wanted).max() <= (1 if file.suffix == ".jpg" else 0)


@pytest.mark.parametrize("to", ["safetensors", PT2, ONNX])
def test_bands_are_judged_as_predict_judges_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    random = np.random.default_rng(0)
    for name, mean in (("dim", 100.0), ("bright", 300.0)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(12):
            np.save(tmp_path / "data" / name / f"{i}.npy", random.normal(mean, 99, (9, 9, 4)).astype(np.float32))
    settings = {**IRIS, "dataset": str(tmp_path / "data"), "arch": "convnet", "epochs": 1}
    small_fit(tmp_path / "run", settings, cache=False)
    export_model(tmp_path / "run", tmp_path / f"model.{to}")
    np.save(tmp_path / "new.npy", random.normal(200, 99, (14, 11, 4)).astype(np.float32))
    wanted = litscope.load(tmp_path / "run").predict([tmp_path / "new.npy"]).probabilities
    assert told_by(to, "bands", f"model.{to}", tmp_path, monkeypatch) == pytest.approx(wanted, abs=1e-5)
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "float32, (batch, 9, 9, 4)" in card
    assert snippet(to, "bands", f"model.{to}") in card


@pytest.mark.parametrize("to", ["safetensors", PT2, ONNX])
def test_rows_are_judged_as_predict_judges_them(
    table: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    run, rows = table
    assert export_model(run, tmp_path / f"model.{to}").checked.largest < 1e-5
    shutil.copy(rows, tmp_path / "new.csv")
    wanted = litscope.load(run).predict(rows).probabilities
    assert np.ptp(wanted[:, 0]) > 0.1
    assert told_by(to, "table", f"model.{to}", tmp_path, monkeypatch) == pytest.approx(wanted, abs=1e-5)


def test_without_output_a_network_goes_into_its_run(
    table: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(table[0], "run")
    line = ["export", "run", "--to", "safetensors"]
    assert main(line) == 0
    assert Path("run/export/safetensors/model.safetensors").exists()
    assert main(line) == 2
    assert "--overwrite" in capsys.readouterr().err
    shutil.copy("run/checkpoints/best.ckpt", "alone.ckpt")
    assert main(["export", "alone.ckpt", "--to", "safetensors"]) == 0
    assert Path("model.safetensors").exists()


@pytest.mark.slow
def test_one_file_needs_neither_its_run_nor_its_data(
    photographs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = photographs
    shutil.copy(run / "checkpoints" / "best.ckpt", tmp_path / "alone.ckpt")
    words = [
        "export",
        str(tmp_path / "alone.ckpt"),
        "--to",
        "safetensors",
        "-o",
        str(tmp_path / "m.safetensors"),
        "--json",
    ]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert result["checked"] == {**result["checked"], "are_own": False, "num_samples": 64}
    assert [Path(path).name for path in result["beside"]] == ["m.json", "MODEL_CARD.md"]
    alone = litscope.load(tmp_path / "m.safetensors").predict(data)
    assert alone.probabilities == pytest.approx(litscope.load(run).predict(data).probabilities, abs=1e-6)
    about = json.loads((tmp_path / "m.json").read_text())
    assert about["input"] == {
        "name": "image", "dtype": "uint8", "shape": ["batch", 146, 146, 3], "size": 146, "mode": "RGB"
    }  # fmt: skip
    assert about["classes"] == alone.classes == ["dark", "light", "middle|"]
    assert "middle 128 of 146" in about["inside"]
    assert "--tta flip" in about["inside"]
    assert str(tmp_path) not in (tmp_path / "m.json").read_text() + (tmp_path / "MODEL_CARD.md").read_text()


def test_data_that_are_gone_are_said(
    table: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(table[0], tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(table[1]), "/nowhere/rows.csv"))
    found = export_model(tmp_path / "run", tmp_path / "m.safetensors")
    assert not found.checked.are_own
    assert "/nowhere/rows.csv" in capsys.readouterr().err
    moved = export_model(tmp_path / "run", tmp_path / "m.safetensors", dataset=str(table[1]), overwrite=True)
    assert moved.checked.are_own


def test_the_card_tells_what_the_run_knows(photographs: tuple[Path, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(photographs[0], run)
    assert main(["discard", str(run), "--id", "0", "--note", "blurred"]) == 0
    litscope.open_run(run).export_model(tmp_path / "a.safetensors")
    litscope.open_run(run).export_model(tmp_path / "b.safetensors")  # of the same weights: one card tells of both
    card = (tmp_path / "MODEL_CARD.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["pipeline_tag"] == "image-classification"
    assert front["litscope"]["files"] == {"a.safetensors": "safetensors", "b.safetensors": "safetensors"}
    (result,) = front["model-index"][0]["results"]
    accuracy = next(metric["value"] for metric in result["metrics"] if metric["type"] == "accuracy")
    assert accuracy == pytest.approx(litscope.open_run(run).metrics["val/accuracy"], abs=1e-4)
    for words in (
        "| middle\\| | 7 | 2 | 0 |",
        "1 sample discarded",
        ", 8 samples) |",
        "There are no numbers of a test set",
        "Classes with fewer than 50 training samples: dark (6), light (6), middle\\| (7).",
        "ema_decay 0.5",
        "tta flip",
        'litscope.load("a.safetensors")',
        'litscope.load("b.safetensors")',
    ):
        assert words in card, words


@pytest.mark.slow
def test_a_run_in_another_precision_is_compared_with_that_too(tmp_path: Path) -> None:
    small_fit(tmp_path / "run", IRIS, precision="bf16", epochs=1)
    found = export_model(tmp_path / "run", tmp_path / "m.safetensors").checked
    assert (found.precision, found.largest < 1e-6) == ("bf16-mixed", True)
    assert found.own_largest is not None
    assert 1e-6 < found.own_largest < 0.05
    assert "in bf16-mixed" in found.text()


def test_a_file_that_says_something_else_does_not_appear() -> None:
    class Two:
        arrays = np.zeros((2, 3))

    wanted = np.array([[0.5, 0.5], [0.2, 0.8]], np.float32)
    for wrong, words in (
        (wanted + np.float32(2e-4), "by up to 0.0002"),
        (np.full_like(wanted, np.nan), "by up to nan"),
        (wanted[:, :1], "answers"),
    ):
        with pytest.raises(LitscopeError, match=words):
            largest_difference(lambda x, wrong=wrong: wrong[: len(x)], Two, wanted, Path("m.onnx"))  # type: ignore
    assert largest_difference(lambda x: wanted[: len(x)], Two, wanted, Path("m.onnx")) == 0  # type: ignore[arg-type]


def test_formats_are_those_of_the_command() -> None:
    assert tuple(FORMATS) == NETWORK_FORMATS


MISTAKES = [
    (["--to", "onxx", "-o", "m.onnx"], "Did you mean 'onnx'"),
    (["--to", "onnx", "-o", "m.pb"], "a file of --to onnx ends in .onnx"),
    (["--to", "pt2", "-o", "m.pt2", "--copy"], "--copy is for --to folder and fiftyone"),
    (["--to", "csv", "-o", "m.csv", "--checkpoint", "last"], "--checkpoint says whose weights leave"),
    (["--to", "safetensors", "-o", "taken.safetensors"], "taken.safetensors exists"),
    (["--to", "safetensors", "-o", "strange/m.safetensors"], "MODEL_CARD.md exists"),
    (["--to", "onnx", "-o", "m.onnx"], "pip install 'litscope[onnx]'"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_mistakes_are_told(
    table: tuple[Path, Path],
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    Path("taken.safetensors").write_bytes(b"")
    Path("strange").mkdir()
    Path("strange/MODEL_CARD.md").write_text("---\nlicense: mit\n---\nMine.\n")
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # as if it were not installed
    before = sorted(Path().rglob("*"))
    assert main(["export", str(table[0]), *words]) == 2
    assert message in capsys.readouterr().err
    assert sorted(Path().rglob("*")) == before


def test_a_stranger_s_weights_are_refused(table: tuple[Path, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(RunError, match="cannot be read as safetensors"):
        litscope.load(tmp_path / "cut.safetensors")
    export_model(table[0], tmp_path / "m.safetensors")
    save_file(load_file(tmp_path / "m.safetensors"), tmp_path / "bare.safetensors")
    with pytest.raises(RunError, match="holds weights alone"):
        litscope.load(tmp_path / "bare.safetensors")
    about = json.loads((tmp_path / "m.json").read_text())
    about["network"]["hidden"] = [10**9]
    save_file(load_file(tmp_path / "m.safetensors"), tmp_path / "large.safetensors", {"litscope": json.dumps(about)})
    with pytest.raises(RunError, match="its settings ask for"):
        litscope.load(tmp_path / "large.safetensors")


NETWORKS = [
    *(("resnet18", "onnx"), ("efficientnet_b0", "onnx"), ("convnext_atto", "onnx"), ("vit_tiny_patch16_224", "onnx")),
    *(("swin_t", "pt2"), ("vit_b_32", "safetensors"), ("whitenet", "pt2"), ("mlp", "safetensors")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "to"), NETWORKS)
def test_any_network_leaves(tmp_path: Path, cifar10_small: Path, arch: str, to: str) -> None:
    size = 32 if arch in ("resnet18", "convnext_atto", "whitenet", "mlp") else 64
    run = tmp_path / "run"
    settings = {**IRIS, "dataset": str(cifar10_small), "arch": arch, "epochs": 1, "pretrained": False}
    small_fit(run, settings, image_size=size, limit_train_batches=2, limit_val_batches=1, limit_test_batches=1)
    found = export_model(run, tmp_path / f"model.{to}")
    assert found.checked.num_samples > 60
    assert found.checked.largest < 1e-4


def test_noise_of_a_table_has_all_that_its_rows_may_have(table: tuple[Path, Path]) -> None:
    cells = random_inputs(open_network(table[0], accelerator="cpu", precision="32-true")).arrays
    assert cells.shape == (64, 5)
    assert np.isnan(cells).any()
    assert set(cells[:, 1].tolist()) == {-1, 0, 1, 2}


@pytest.mark.parametrize("to", NETWORK_FORMATS)
@pytest.mark.parametrize("kind", ["image", "table"])
def test_the_page_has_the_lines_that_are_tested(to: str, kind: Any) -> None:
    assert f"```python\n{snippet(to, kind, f'model.{to}')}```\n" in PAGE.read_text()


@pytest.mark.slow
def test_timm_builds_it_without_litscope(tmp_path: Path, cifar10_small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**IRIS, "dataset": str(cifar10_small), "arch": "resnet18", "epochs": 1, "pretrained": False}
    small_fit(tmp_path / "run", settings, image_size=96, limit_train_batches=2, limit_val_batches=1, precision="32")
    export_model(tmp_path / "run", tmp_path / "model.safetensors")
    lines = next(block for block in PAGE.read_text().split("```python\n") if "timm.create_model" in block)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(lines.split("```")[0], names)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)  # as they are stored
    wanted = litscope.load(tmp_path / "run").predict(images).probabilities
    assert names["judge"](torch.from_numpy(images).permute(0, 3, 1, 2)).numpy() == pytest.approx(wanted, abs=1e-5)


@pytest.fixture(scope="module")
def calibrated(table: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on a table, with all that can be kept with its weights."""
    run = tmp_path_factory.mktemp("calibrated") / "run"
    shutil.copytree(table[0], run)
    path = open_network(run).checkpoint
    on = FittedOn("val", 8, False, "ab12")
    sets = SetLimit("lac", 0.9, False, (0.6, 0.7))
    keep(path, Readout("vector", (0.5, 3.0), (0.25, -0.5), "f1", 0.97, sets, on))
    return run


@pytest.mark.parametrize("to", ["safetensors", PT2, ONNX])
def test_what_is_kept_with_the_weights_leaves_with_them(
    calibrated: Path, table: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    found = export_model(calibrated, tmp_path / f"model.{to}")
    assert found.checked.largest < 1e-5
    shutil.copy(table[1], tmp_path / "new.csv")
    said = litscope.load(calibrated).predict(tmp_path / "new.csv")
    plain = litscope.load(table[0]).predict(tmp_path / "new.csv")
    assert np.abs(said.probabilities - plain.probabilities).max() > 0.05
    assert told_by(to, "table", f"model.{to}", tmp_path, monkeypatch) == pytest.approx(said.probabilities, abs=1e-5)
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert (
        "Learned on 8 validation samples, labels as they were: logits scaled by a vector, a threshold of 0.97" in card
    )
    assert "and not calibrated" not in card
    assert "Predict the second class where its probability is at least `threshold`" in card
    assert ('best = int(p[0, 1] >= about["readout"]["threshold"])' in card) == (to != "safetensors")
    if to == "safetensors":
        about = json.loads((tmp_path / "model.json").read_text())
        assert about["readout"]["sets"]["limit"] == [0.6, 0.7]
        again = litscope.load(tmp_path / "model.safetensors").predict(tmp_path / "new.csv")
        assert again.names == said.names != plain.names


def test_another_calibration_is_another_network(calibrated: Path, table: tuple[Path, Path], tmp_path: Path) -> None:
    """The card of one does not tell of the file of the other."""
    export_model(calibrated, tmp_path / "one.safetensors")
    assert main(["export", str(table[0]), "--to", "safetensors", "-o", str(tmp_path / "other.safetensors")]) == 2
