"""The studio beside a training: real processes, a real journal between them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from litscope.cli import main
from litscope.errors import ConfigError
from litscope.live.beside import start_studio, why_no_studio

IRIS = ["fit", "iris", "--arch", "mlp", "--accelerator", "cpu", "--logger", "none", "--no-progress"]


def until(look: Callable[[], Any], seconds: float = 90) -> Any:
    """What `look` finds, once it finds something."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        if found := look():
            return found
        time.sleep(0.2)
    raise AssertionError("it did not come to pass")


def asked(address: str, path: str, body: dict[str, Any] | None = None) -> Any:
    base, token = address.split("?token=")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{base}api/{path}", data, headers), timeout=60) as answer:
        return json.load(answer)


def studio_pid(folder: Path) -> int | None:
    """The process of the studio over a folder."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"studio" in words and os.fsencode(folder) in words:
            return int(path.parent.name)
    return None


@pytest.mark.slow
def test_a_training_is_steered_through_its_page(tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = [*IRIS, "--studio", "--epochs", "2000", "--run-dir", str(tmp_path / "runs" / "one")]
    environment = {**os.environ, "LITSCOPE_STUDIO": "1"}
    with log.open("w") as out:
        training = subprocess.Popen(
            [sys.executable, "-m", "litscope", *words], cwd=tmp_path, stdout=out, stderr=out, env=environment
        )
    try:
        found = until(lambda: re.search(r"litscope studio: (http://\S+)", log.read_text()))
        address = found[1]
        line = until(lambda: next((one for one in asked(address, "runs")["runs"] if one["epoch"]), None))
        assert (line["name"], line["state"]) == ("one", "running")
        run = line["id"]

        def status(action: dict[str, Any]) -> Any:
            (one,) = [a for a in asked(address, f"runs/{run}/journal")["actions"] if a["id"] == action["id"]]
            return one["status"] if one["status"] != "pending" else None

        done = asked(address, f"runs/{run}/actions", {"what": "set", "settings": {"lr": 0.003}})
        assert (done["action"]["status"], done["sentence"]) == (
            "pending",
            "Requested. The trainer applies it at its next step.",
        )
        assert until(lambda: status(done["action"])) == "applied"
        (lr,) = [one for one in asked(address, f"runs/{run}")["settings"] if one["name"] == "lr"]
        assert (lr["requested"], lr["applied"], lr["state"]) == (0.003, 0.003, "applied")
        paused = asked(address, f"runs/{run}/actions", {"what": "pause"})
        assert until(lambda: status(paused["action"])) == "applied"
        assert until(lambda: asked(address, "runs")["runs"][0]["state"] == "paused")
        evaluated = asked(address, f"runs/{run}/actions", {"what": "evaluate", "split": "val"})
        assert until(lambda: status(evaluated["action"])) == "applied"
        asked(address, f"runs/{run}/actions", {"what": "resume"})
        asked(address, f"runs/{run}/actions", {"what": "stop"})
        assert training.wait(120) == 0, log.read_text()
        assert until(lambda: asked(address, "runs")["runs"][0]["state"] == "finished"), "the page goes on"
    finally:
        training.kill()
        if (pid := studio_pid(tmp_path / "runs")) is not None:
            os.kill(pid, 15)


def test_in_a_batch_job_it_is_refused_and_says_how_to_look(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LITSCOPE_STUDIO", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with pytest.raises(ConfigError, match=rf"no studio in a batch job.*litscope studio {in_tmp}/runs"):
        start_studio(Path("runs"))
    assert "job 17" in str(why_no_studio(Path("runs")))
    assert main([*IRIS, "--studio"]) == 2
    assert "Look through the shared folder instead" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_watched_script_opens_it_and_keeps_it(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import litscope.watch as wl

    monkeypatch.setenv("LITSCOPE_STUDIO", "1")
    wl.serve(serving_grpc=True, serving_cli=False)
    try:
        pid = until(lambda: studio_pid(in_tmp / "runs"))
        assert b"\0--grpc-port\0" + b"0\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
        began = time.monotonic()
        wl.keep_serving(timeout=0.5)
        assert time.monotonic() - began < 30
        assert not Path(f"/proc/{pid}").exists()
        monkeypatch.setenv("SLURM_JOB_ID", "17")
        wl.serve()
        began = time.monotonic()
        wl.keep_serving()
        assert time.monotonic() - began < 5, "in a batch job it returns at once"
    finally:
        wl.clear_all()
