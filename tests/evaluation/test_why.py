"""`litscope sample --why`: the map is where the thing is, and what the papers' formulas say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from small_runs import IRIS, small_fit

import litscope
from litscope.cli import main
from litscope.errors import ModelError
from litscope.evaluation.heatmaps import heatmap
from litscope.models.predictor import Predictor


def of_squares(folder: Path, count: int, side: int) -> Path:
    """Gray noise with a patch of 8 pixels, striped upright or lengthwise: only there are the classes apart."""
    random = np.random.default_rng(0)
    for name in ("lengthwise", "upright"):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.repeat(random.normal(128, 25, (side, side, 1)), 3, axis=2)
            top, left = random.integers(0, side - 8, 2)
            stripes = np.where(np.arange(8) % 4 < 2, 0, 255)
            patch = np.broadcast_to(stripes[:, None] if name == "lengthwise" else stripes, (8, 8))
            pixels[top : top + 8, left : left + 8] = patch[..., None]
            path = folder / name / f"{i}-{top}-{left}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("squares")
    settings = {**IRIS, "dataset": str(of_squares(base / "data", 60, 24)), "arch": "convnet", "epochs": 12}
    small_fit(base / "run", settings, lr=0.01, augment="none", cache=False, val_split=0.2)
    assert litscope.open_run(base / "run").metrics["val/accuracy"] > 0.9
    return base / "run"


def untrained(arch: str) -> Predictor:
    """A network for three classes of images of 64 pixels, with no weights at zero."""
    torch.manual_seed(0)
    network = Predictor(arch, num_classes=3, in_channels=3, image_size=64, pretrained=False).eval()
    for weight in network.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.05)
    return network


@pytest.mark.slow
def test_the_map_is_where_the_thing_is(squares: Path) -> None:
    model, hits = litscope.load(squares), 0
    paths = sorted((squares.parent / "data").rglob("*.png"))[::6]
    network = model._network.predictor.eval()
    for path in paths:
        image = torch.tensor(np.asarray(Image.open(path))).permute(2, 0, 1)[None] / 255
        found = heatmap(network, image, ("lengthwise", "upright").index(path.parent.name))
        assert found.method == "Grad-CAM"
        assert found.values.shape == (6, 6)
        row, column = np.unravel_index(found.values.argmax(), found.values.shape)
        top, left = map(int, path.stem.split("-")[1:])
        hits += bool(top - 4 <= 4 * row + 2 <= top + 12 and left - 4 <= 4 * column + 2 <= left + 12)
    assert hits >= 0.9 * len(paths)


@pytest.mark.slow
def test_the_command_draws_it(squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = litscope.open_run(squares).sql("select key from manifest where split = 'val' limit 1")["key"][0].as_py()
    figure = tmp_path / "why.png"
    words = ["sample", str(squares), key, "--why", "--class", "upright", "--figure", str(figure), "--json"]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    table = litscope.predict(squares, [squares.parent / "data" / key]).table.to_pylist()[0]
    assert result["key"] == key
    assert result["why"] == {
        **{"figure": str(figure), "method": "Grad-CAM", "of": "upright", "prediction": table["prediction"]},
        **{"checkpoint": result["why"]["checkpoint"], "p": pytest.approx(table["p_upright"], abs=1e-6)},
    }
    drawn = np.asarray(Image.open(figure)).astype(int)
    left, right = drawn[60:300, 30:300], drawn[60:300, 400:670]
    assert np.ptp(left, 2).max() == 0  # an image in gray
    assert np.ptp(right, 2).max() > 40  # and colours over it
    again = litscope.open_run(squares).why(key)
    assert again.figure.parent == squares / "figures"
    assert again.of == again.prediction == table["prediction"]


def test_it_is_the_formula_of_grad_cam_where_the_head_averages(monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = untrained("test_resnet"), torch.rand(1, 3, 64, 64)
    kept: list[torch.Tensor] = []
    handle = network.net.layer4.register_forward_hook(lambda _, __, output: kept.append(output))  # type: ignore
    logits = network(image)[0]
    label = int(logits.argmax())
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[label], kept[0])
    cam = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1)[0].relu()
    assert cam.max() > 0
    found = heatmap(network, image, label)
    assert found.values == pytest.approx((cam / cam.max()).detach().numpy(), abs=1e-5)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_it_is_the_formula_of_roll_out(pool: str) -> None:
    """Against weights that the network itself keeps, where timm does not fuse its attention."""
    network = untrained("test_vit")
    net: Any = network.net
    if pool == "avg":
        net.global_pool, net.pool_include_prefix = "avg", False
    image = torch.rand(1, 3, 64, 64)
    found = heatmap(network, image, 1)
    assert found.method == "attention roll-out"
    before = F.scaled_dot_product_attention
    kept: list[torch.Tensor] = []
    for block in net.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda _, __, output: kept.append(output))
    gradients = torch.autograd.grad(network(image.requires_grad_())[0, 1], kept)
    num = kept[0].shape[-1]
    rolled = torch.eye(num)
    for weights, gradient in zip(kept, gradients, strict=True):
        rolled = rolled + (weights * gradient).relu().mean(1)[0] @ rolled
    side = found.values.shape[0]
    assert num == side**2 + 1
    if pool == "token":
        wanted = (rolled - torch.eye(num))[0, 1:].view(side, side)
        wanted = wanted - wanted.min()
        assert found.values == pytest.approx((wanted / wanted.max()).detach().numpy(), abs=1e-5)
    else:  # read at all parts: each has a share
        assert np.ptp(found.values) == 1
    assert F.scaled_dot_product_attention is before


@pytest.mark.parametrize("arch", ["swin_t", "vit_b_32", "efficientnet_b0"])
@pytest.mark.slow
def test_other_networks_have_a_map(arch: str) -> None:
    network, image = untrained(arch), torch.rand(1, 3, 64, 64)
    found = [heatmap(network, image, label) for label in range(3)]
    assert {one.method for one in found} == {"attention roll-out" if arch == "vit_b_32" else "Grad-CAM"}
    assert {one.values.shape for one in found} == {(2, 2)}
    assert max(np.ptp(one.values) for one in found) > 0.1


def test_an_mlp_has_no_places() -> None:
    network = Predictor("mlp", num_classes=3, in_channels=1, image_size=8).eval()
    with pytest.raises(ModelError, match="neither convolutions nor attention"):
        heatmap(network, torch.rand(1, 1, 8, 8), 0)


@pytest.mark.slow
def test_mistakes_are_told(squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_fit(tmp_path / "iris", IRIS, epochs=1)
    moved = tmp_path / "moved"
    shutil.copytree(squares, moved)
    recipe = moved / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(squares.parent / "data"), "/nowhere"))
    for words, message in (
        ([str(tmp_path / "iris"), "0", "--why"], "this run is about a table"),
        ([str(squares), "0", "--why", "--class", "uprigth"], "Did you mean 'upright'"),
        ([str(squares), "0", "--class", "upright"], "--class belongs to --why"),
        ([str(squares), "0", "--figure", "x.png"], "--figure belongs to --why"),
        ([str(moved), "0", "--why"], "--dataset PATH"),
    ):
        capsys.readouterr()
        assert main(["sample", *words]) == 2
        assert message in capsys.readouterr().err
    assert main(["sample", str(moved), "0", "--why", "--dataset", str(squares.parent / "data")]) == 0
