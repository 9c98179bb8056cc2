"""`litscope check --fetch-weights`, on a machine with internet, for a job on one without."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from litscope.config.flags import recipe_from_keywords
from litscope.errors import ModelError
from litscope.training.checkup import check_up

ARCH = "test_resnet.r160_in1k"
"""timm's smallest, which it keeps for tests such as this."""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(np.full((40, 40, 3), 20 * i, np.uint8)).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def hub() -> Iterator[str]:
    """A Hugging Face hub on loopback, with one file: the address of it."""
    import timm
    from safetensors.torch import save

    torch.manual_seed(1)
    content = save(timm.create_model(ARCH.partition(".")[0]).state_dict())

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            is_there = self.path.endswith(("/model.safetensors", f"/timm/{ARCH}"))
            self.send_response(200 if is_there else 404)
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", hashlib.sha256(content).hexdigest())
            self.send_header("Content-Length", str(len(content) if is_there else 0))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            if self.path.endswith("/model.safetensors"):
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_what_was_fetched_is_what_a_job_without_internet_reads(photos: Path, hub: str, tmp_path: Path) -> None:
    def check(*more: str, **environment: str) -> dict[str, object]:
        words = f"check {photos} --arch {ARCH} --pretrained --image-size 32 --accelerator cpu --json".split()
        around = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0", **environment}
        done = subprocess.run(
            [sys.executable, "-m", "litscope", *words, *more], env=around, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, object] = json.loads(done.stdout)["result"]
        return found

    before = check(HF_ENDPOINT=hub)
    assert (before["weights"], before["download"]) == (None, f"{hub}/timm/{ARCH}")
    fetched = check("--fetch-weights", HF_ENDPOINT=hub)
    assert fetched["download"] is None
    assert Path(str(fetched["weights"])).is_relative_to(tmp_path / "hf")
    in_job = check(HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    assert in_job["weights"] == fetched["weights"]


def test_without_internet_it_says_what_to_do(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no" / "hub"))
    flags = {"weights": ARCH, "accelerator": "cpu", "image_size": 32}
    with pytest.raises(
        ModelError, match=r"cannot be had here: .*Run this where the internet is, such as on a login node"
    ):
        check_up(recipe_from_keywords(dataset=str(photos), **flags), fetch_weights=True)


def test_a_run_that_starts_from_no_weights_has_none_to_fetch(photos: Path) -> None:
    recipe = recipe_from_keywords(dataset=str(photos), arch="convnet", accelerator="cpu")
    with pytest.raises(ModelError, match=r"starts from no pretrained weights \(there are none for it\)"):
        check_up(recipe, fetch_weights=True)
