"""Weights from files and from the hub, into networks of other classes, channels and sizes."""

import re
import socket
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from litscope.errors import ModelError
from litscope.models.networks import backbones, hub
from litscope.models.networks.backbones import build, why_no_weights


def resnet(num_classes: int = 10, **settings) -> nn.Module:
    return build("resnet18", num_classes, **settings).net


def saved(content, path: Path) -> str:
    torch.save(content, path)
    return str(path)


@pytest.mark.thorough
@pytest.mark.flag("weights")
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "args": {"lr": 0.1}},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {
            "state_dict": {f"net.{name}": value for name, value in state.items()} | {"mean": torch.zeros(3)}
        },
        lambda state: {"state_dict": {f"model.module.{name}": value for name, value in state.items()}},
        lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
    ],
    ids=["plain", "state_dict", "model", "ddp", "ours", "lightning of ddp", "compiled"],
)
def test_files_of_all_shapes(wrap, tmp_path):
    source = resnet()
    made = build("resnet18", 10, weights=saved(wrap(source.state_dict()), tmp_path / "w.pt"))
    for name, value in made.net.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name
    assert "122 of 122 tensors loaded" in made.notes[-2]
    assert "the head is kept" in made.notes[-1]
    assert "does not say what it tells apart" in made.notes[-1]


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    source = resnet()
    save_file({name: value.contiguous() for name, value in source.state_dict().items()}, tmp_path / "w.safetensors")
    made = build("resnet18", 10, weights=tmp_path / "w.safetensors")
    assert torch.equal(made.net.conv1.weight, source.conv1.weight)


def test_head_of_another_shape_is_left_out_and_said(tmp_path):
    source = resnet(10)
    made = build("resnet18", 4, weights=saved(source.state_dict(), tmp_path / "w.pt"))
    assert torch.equal(made.net.layer4[1].conv2.weight, source.layer4[1].conv2.weight)
    assert made.net.fc.weight.shape == (4, 512)
    assert "120 of 122 tensors loaded" in made.notes[-1]
    assert "fc.weight (10, 512) (here (4, 512))" in made.notes[-1]


def test_what_is_missing_and_what_is_foreign_is_said(tmp_path):
    state = resnet().state_dict()
    del state["layer4.1.bn2.weight"]
    state["extra.weight"] = torch.zeros(3)
    made = build("resnet18", 10, weights=saved(state, tmp_path / "w.pt"))
    assert "not in the file: layer4.1.bn2.weight" in made.notes[-2]
    assert "not in the network: extra.weight" in made.notes[-2]


def test_weights_of_another_network_are_refused_also_where_some_tensors_fit(tmp_path):
    source = saved(build("test_efficientnet", 10).net.state_dict(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"only \d+ of its 296 tensors fit this network.*another --arch"):
        build("tf_efficientnet_lite0", 10, weights=source)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda raw, averaged: {"state_dict": raw, "state_dict_ema": averaged},
        lambda raw, averaged: {
            "model": raw,
            "model_ema": {"n_averaged": torch.tensor(3)}
            | {f"module.{name}": value for name, value in averaged.items()},
        },
    ],
    ids=["timm", "torchvision"],
)
def test_averaged_weights_are_taken_and_said(wrap, tmp_path):
    raw, averaged = (build("test_efficientnet", 10).net.state_dict() for _ in range(2))
    made = build("test_efficientnet", 10, weights=saved(wrap(raw, averaged), tmp_path / "w.pth"))
    assert torch.equal(made.net.conv_stem.weight, averaged["conv_stem.weight"])
    assert re.search(r"w.pth, the averaged weights \((state_dict|model)_ema\): 88 of 88 tensors", made.notes[-2])


def test_positions_are_resampled_to_another_image_size(tmp_path):
    """As timm does, and not left at their random start."""
    at_64 = build("test_vit", 10, image_size=64).net
    with torch.no_grad():
        at_64.pos_embed[:, 1:] = torch.linspace(0, 1, 4).repeat_interleave(4)[None, :, None]  # by rows of 4
    made = build("test_vit", 10, image_size=96, weights=saved(at_64.state_dict(), tmp_path / "w.pt"))
    assert torch.equal(made.net.pos_embed[:, 0], at_64.pos_embed[:, 0])
    rows = made.net.pos_embed[0, 1:, 0].view(6, 6)
    assert (rows.diff(dim=0) > 0.05).all()
    assert "80 of 80 tensors loaded; resampled to the grid of this image size: pos_embed (1, 17, 64)" in made.notes[-2]


def test_first_convolution_is_adapted_to_gray(tmp_path):
    source = resnet()
    made = build("resnet18", 10, in_channels=1, weights=saved(source.state_dict(), tmp_path / "w.pt"))
    torch.testing.assert_close(made.net.conv1.weight, source.conv1.weight.sum(1, keepdim=True))


@pytest.mark.thorough
@pytest.mark.parametrize(("trained_at", "stem"), [(32, "small"), (224, "standard")])
def test_weights_decide_the_stem(trained_at, stem, tmp_path):
    source = resnet(image_size=trained_at)
    made = build("resnet18", 10, image_size=32, weights=saved(source.state_dict(), tmp_path / "w.pt"))
    assert made.stem == stem
    assert torch.equal(made.net.conv1.weight, source.conv1.weight)


class Unsafe:
    def __reduce__(self):
        return (Path.touch, (Path("was_run"),))


def test_files_that_cannot_be_used(in_tmp, tmp_path):
    with pytest.raises(ModelError, match="There is no weights file"):
        build("resnet18", 10, weights="nowhere.pt")
    (tmp_path / "noise.pt").write_bytes(b"\x00\x01 noise" * 100)
    with pytest.raises(ModelError, match=r"cannot be read as weights|does not unpickle"):
        build("resnet18", 10, weights="noise.pt")
    (tmp_path / "noise.safetensors").write_bytes(b"noise" * 100)
    with pytest.raises(ModelError, match="cannot be read as weights"):
        build("resnet18", 10, weights="noise.safetensors")
    whole = Path(saved(resnet().state_dict(), tmp_path / "whole.pt")).read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be read as weights"):
        build("resnet18", 10, weights="half.pt")
    with pytest.raises(ModelError, match="does not unpickle"):
        build("resnet18", 10, weights=saved({"state_dict": {}, "x": Unsafe()}, tmp_path / "unsafe.pt"))
    assert not Path("was_run").exists()
    with pytest.raises(ModelError, match="no tensors by name"):
        build("resnet18", 10, weights=saved({"epoch": 1}, tmp_path / "empty.pt"))
    with pytest.raises(ModelError, match="holds a list"):
        build("resnet18", 10, weights=saved([torch.zeros(1)], tmp_path / "list.pt"))
    with pytest.raises(ModelError, match=r"no tensor fits this network.*another --arch"):
        build(
            "resnet18", 10, weights=saved(build("convnet", 10, image_size=28).net.state_dict(), tmp_path / "convnet.pt")
        )


# ---- weights from the hub --------------------------------------------------------------------


@pytest.mark.flag("pretrained")
@pytest.mark.parametrize("arch", ["resnet18", "vit_b_16"])
def test_without_a_network_it_fails_fast_or_falls_back(arch, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    start = time.monotonic()
    assert why_no_weights(arch) is not None
    with pytest.raises(ModelError, match=f"Pretrained weights of {arch} cannot be had: .*--weights FILE"):
        build(arch, 10, pretrained=True)
    with torch.device("meta"):
        made = build(arch, 10, image_size=32, pretrained=None)
    assert "starts from scratch" in made.notes[0]
    assert not made.is_pretrained
    assert time.monotonic() - start < 5


def test_a_name_server_that_never_answers_does_not_hang(monkeypatch):
    give_up = threading.Event()

    def silent(*_args, **_kwargs):
        give_up.wait(30)
        raise OSError("gave up")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    start = time.monotonic()
    assert "does not answer" in hub.unreachable("https://weights.example/file.pth", 0.3)
    assert time.monotonic() - start < 3
    give_up.set()


def test_a_host_that_answers_is_reachable(tmp_path):
    import http.server

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:  # the handler knows no HEAD and answers 501, which is an answer
        assert hub.unreachable(f"http://127.0.0.1:{server.server_port}/x") is None
    finally:
        server.shutdown()
        server.server_close()


def test_architectures_without_weights_say_so():
    assert why_no_weights("convnet") == "there are none for it"
    assert why_no_weights("botnet50ts_256") == "timm has none for it"
    made = build("botnet50ts_256", 10, image_size=256, pretrained=None)
    assert "timm has none for it" in made.notes[0]
    with pytest.raises(ModelError, match="Did you mean"):
        why_no_weights("resnet81")


@pytest.fixture
def torch_hub(tmp_path, monkeypatch) -> Path:
    """An empty cache of torch.hub's, that pretends nothing can be downloaded."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_cached_torchvision_weights_are_loaded_without_a_network(torch_hub):
    import torchvision

    source = torchvision.models.resnet18()
    url = torchvision.models.get_model_weights("resnet18").DEFAULT.url
    torch.save(source.state_dict(), torch_hub / Path(url).name)
    assert why_no_weights("torchvision/resnet18") is None
    made = build("torchvision/resnet18", 10, image_size=32, in_channels=1, pretrained=True)
    assert made.is_pretrained
    assert made.stem == "standard"  # as trained, though the images are small
    assert torch.equal(made.net.layer1[0].conv1.weight, source.layer1[0].conv1.weight)
    assert made.mean == pytest.approx([(0.485 + 0.456 + 0.406) / 3])
    assert any("fc.weight (1000, 512)" in note for note in made.notes)


@pytest.mark.slow
def test_cached_timm_weights_are_loaded_without_a_network(tmp_path, monkeypatch):
    import timm
    from huggingface_hub import constants
    from safetensors.torch import save_file

    source = timm.create_model("resnet18")
    place = tmp_path / "models--timm--resnet18.a1_in1k"
    (place / "snapshots" / "abc").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    state = {name: value.contiguous() for name, value in source.state_dict().items()}
    save_file(state, place / "snapshots" / "abc" / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    made = build("resnet18", 10, pretrained=True)
    assert made.is_pretrained
    assert torch.equal(made.net.layer1[0].conv1.weight, source.layer1[0].conv1.weight)
    assert made.net.fc.weight.shape == (10, 512)
    assert (made.mean, made.std) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert "the head of 1000 classes was left out" in made.notes[0]
    colour_only = backbones.build("resnet18", 10, in_channels=4, pretrained=True)
    assert colour_only.mean is None
    assert "adapted from 3 to 4 channels" in colour_only.notes[0]
