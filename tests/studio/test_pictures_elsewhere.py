"""Pictures of a run whose shards lie on a server, which goes away and comes back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from doors import studio_over
from noise_shards import write_noise
from s3_server import ACCESS, S3Server
from small_runs import small_fit

from litscope.data.storage.retries import looking
from litscope.studio.refusals import NoImage
from litscope.studio.samples import pictures


@pytest.mark.slow
def test_a_storage_that_is_away_holds_no_page_up_and_is_asked_again(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture waited for ten minutes, and data that could not be opened once were given up."""
    write_noise(in_tmp / "buckets/mine/noise", 24, 8, most_samples=16)
    server = S3Server(in_tmp / "buckets")
    for name, value in {**ACCESS, "AWS_ENDPOINT_URL_S3": server.url, "LITSCOPE_CACHE": str(in_tmp / "c")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(looking, "patience_s", 1.0)
    monkeypatch.setattr(pictures, "AWAY_S", 4.0)
    try:
        given = {"dataset": "s3://mine/noise/", "arch": "convnet", "epochs": 1}
        small_fit(in_tmp / "runs" / "run", given, accelerator="cpu")
        opened, new = (studio_over(in_tmp / "runs", cache=in_tmp / "thumbs") for _ in range(2))
        name = opened.runs().runs[0].id
        assert opened.image(name, 1, 96).content[:4] == b"\x89PNG"
        server.kill()
        for studio in (opened, new):
            began = time.monotonic()
            for sample_id in (2, 3, 4):
                with pytest.raises(NoImage, match="storage of the data does not answer"):
                    studio.image(name, sample_id, 96)
            assert time.monotonic() - began < 15
        server.start()
        time.sleep(pictures.AWAY_S)
        for studio in (opened, new):
            assert studio.image(name, 2, 96).content[:4] == b"\x89PNG"
    finally:
        server.kill()
