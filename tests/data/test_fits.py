"""FITS images: what astropy wrote comes back, stretched by its formulas; strangers' files are refused in a sentence."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits as astropy_fits
from astropy.visualization import AsinhStretch, LinearStretch, LogStretch, ManualInterval, ZScaleInterval
from small_runs import small_fit

from litscope.data.reading import fits
from litscope.data.reading.fits import Rule, read_fits, read_fits_header
from litscope.data.sources.source import open_source
from litscope.errors import ConfigError, DataError
from litscope.evaluation.predict import predict
from litscope.rundir import RunDir

RANDOM = np.random.default_rng(0)
SKY = RANDOM.normal(100, 10, (12, 9)).astype(np.float32)
SKY[3, 4] = 5000  # a star


def written(folder: Path, *parts: Any, name: str = "a.fits") -> Path:
    """A file of these extensions; arrays are unnamed pictures."""
    first, *others = parts
    primary = astropy_fits.PrimaryHDU(first) if not isinstance(first, astropy_fits.ImageHDU) else None
    hdus = [primary or astropy_fits.PrimaryHDU(), *([] if primary else [first])]
    hdus += [part if isinstance(part, astropy_fits.ImageHDU) else astropy_fits.ImageHDU(part) for part in others]
    astropy_fits.HDUList(hdus).writeto(folder / name)
    return folder / name


@pytest.mark.flag("fits_stretch", "fits_limits")
@pytest.mark.parametrize("stretch", ["asinh", "linear", "log", "zscale"])
@pytest.mark.parametrize("limits", [None, (80.0, 200.0)])
def test_the_stretch_is_astropys(tmp_path: Path, stretch: fits.Stretch, limits: tuple[float, float] | None) -> None:
    found = read_fits(written(tmp_path, SKY), Rule(stretch, limits))
    assert (found.shape, found.dtype) == ((12, 9, 1), np.float32)
    usual = ZScaleInterval().get_limits(SKY) if stretch == "zscale" else np.percentile(SKY, [0.5, 99.5])
    curve = {"asinh": AsinhStretch(0.1), "log": LogStretch(1000)}.get(stretch, LinearStretch())
    expected = curve(ManualInterval(*(limits or usual))(SKY.astype(np.float64)))
    np.testing.assert_allclose(found[:, :, 0], expected, rtol=1e-5, atol=1e-6)


def test_what_is_not_finite_is_zero_and_counts_for_no_limit(tmp_path: Path) -> None:
    holes = SKY.copy()
    holes[0], holes[1, 1] = np.nan, np.inf
    found = read_fits(written(tmp_path, holes), Rule("linear"))[:, :, 0]
    assert (found[0] == 0).all()
    assert found[1, 1] == 0
    low, high = np.percentile(holes[np.isfinite(holes)], [0.5, 99.5])
    np.testing.assert_allclose(found[5:], ((SKY[5:] - low) / (high - low)).clip(0, 1), rtol=1e-4, atol=1e-5)
    constant = read_fits(written(tmp_path, np.full((4, 4), 7.0), name="c.fits"), Rule())
    assert not constant.any()
    with pytest.raises(DataError, match="not one of its values is finite"):
        read_fits(written(tmp_path, np.full((4, 4), np.nan), name="n.fits"), Rule())


@pytest.mark.parametrize("name", ["a.fits", "b.fits.gz", "C.FIT"])
def test_sixteen_bits_stay_sixteen_until_they_are_stretched(tmp_path: Path, name: str) -> None:
    counts = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    found = read_fits(written(tmp_path, counts, name=name), Rule("linear", (0.0, 65535.0)))
    np.testing.assert_array_equal(found[:, :, 0], (counts / 65535).astype(np.float32))


def test_which_pictures_are_bands(tmp_path: Path) -> None:
    def image(value: float, name: str) -> astropy_fits.ImageHDU:
        return astropy_fits.ImageHDU(np.full((4, 5), value, np.float32) + np.eye(4, 5, dtype=np.float32), name=name)

    rule = Rule("linear", (0.0, 10.0))
    cube = written(tmp_path, np.stack([np.full((4, 5), k, np.float32) for k in (1, 2, 3)])[None], name="cube.fits")
    np.testing.assert_allclose(read_fits(cube, rule)[0, 0], [0.1, 0.2, 0.3], rtol=1e-6)
    bands = written(tmp_path, image(1, "G"), image(2, "R"), image(9, "ERR"), image(9, "DQ"), name="bands.fits")
    np.testing.assert_allclose(read_fits(bands, rule)[0, 1], [0.1, 0.2], rtol=1e-6)
    science = written(tmp_path, image(3, "SCI"), image(9, "OTHER"), name="sci.fits")
    np.testing.assert_allclose(read_fits(science, rule)[0, 1], [0.3], rtol=1e-6)
    assert read_fits_header(bands).num_bands == 2
    packed = astropy_fits.HDUList([astropy_fits.PrimaryHDU(), astropy_fits.CompImageHDU(SKY.astype(np.int16))])
    packed.writeto(tmp_path / "packed.fits")
    assert read_fits(tmp_path / "packed.fits", rule).shape == (12, 9, 1)


def test_hostile_files_are_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = written(tmp_path, SKY).read_bytes()
    wide = whole.replace(b"NAXIS1  =                    9", b"NAXIS1  =            999999999")
    table = astropy_fits.BinTableHDU.from_columns([astropy_fits.Column("x", "E", array=np.zeros(3))])
    astropy_fits.HDUList([astropy_fits.PrimaryHDU(), table]).writeto(tmp_path / "table.fits")
    two = written(tmp_path, np.zeros((4, 4)), np.zeros((5, 4)), name="two.fits")
    files = {
        "short.fits": (whole[:3000], "bytes too early"),
        "wide.fits": (wide, "bytes too early|at most"),
        "empty.fits": (b"", "does not begin with SIMPLE"),
        "text.fits": (b"SIMPLE  = " + b"x" * 6000, "not a FITS image"),
        "no.fits.gz": (b"\x1f\x8b\x08broken", "not a FITS image"),
        "table.fits": (None, "holds no picture"),
        two.name: (None, "4 x 4 and 4 x 5 pixels"),
        "four.fits": (written(tmp_path, np.zeros((2, 2, 3, 3)), name="f.fits").read_bytes(), "a picture is"),
    }
    for name, (content, message) in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        for read in (read_fits_header, lambda path: read_fits(path, Rule())):
            with pytest.raises(DataError, match=message):
                read(tmp_path / name)
    monkeypatch.setattr(fits, "MOST_BYTES", 100_000)
    with gzip.open(tmp_path / "bomb.fits.gz", "wb") as bomb:
        bomb.write(whole + bytes(200_000))
    with pytest.raises(DataError, match="GiB unpacked"):
        read_fits_header(tmp_path / "bomb.fits.gz")
    os.mkfifo(tmp_path / "pipe.fits")
    with pytest.raises(DataError):
        read_fits_header(tmp_path / "pipe.fits")


def classes(folder: Path, suffix: str = ".fits", bands: int = 2) -> Path:
    """Ten dark and ten bright pictures of `bands` bands."""
    for number in range(20):
        name = "bright" if number % 2 else "dark"
        (folder / name).mkdir(parents=True, exist_ok=True)
        picture = RANDOM.normal(500 if number % 2 else 100, 5, (bands, 16, 16)).astype(np.float32)
        written(folder / name, picture, name=f"{number}{suffix}")
    return folder


def test_a_folder_and_a_list_of_fits_images(tmp_path: Path) -> None:
    folder = classes(tmp_path / "sky", ".fits.gz")
    source = open_source(folder, fits_limits=(0.0, 1000.0), fits_stretch="linear")
    assert source.encoding["fits"] == {"stretch": "linear", "limits": [0.0, 1000.0]}
    assert (source.reader.channels, source.reader.dtype) == (2, np.float32)
    assert "FITS images: linear stretch between 0 and 1000" in source.notes
    keys = source.manifest.table["key"].to_pylist()
    at = keys.index("bright/1.fits.gz")
    assert source.reader.read(at).mean() == pytest.approx(0.5, abs=0.01)
    rows = "\n".join(f"{key.removesuffix('.fits.gz')},{key.split('/')[0]}" for key in keys)
    (folder / "list.csv").write_text(f"image,label\n{rows}\n")
    listed = open_source(folder / "list.csv")
    assert listed.encoding["fits"] == {"stretch": "asinh", "limits": None}
    assert listed.manifest.classes == ("bright", "dark")


def test_flags_for_fits_images_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--fits-stretch log is for FITS images; digits has none"):
        open_source("digits", fits_stretch="log")
    with pytest.raises(ConfigError, match="--fits-limits 3,1: it is two numbers, the lower one first"):
        open_source(classes(tmp_path / "sky"), fits_limits=(3.0, 1.0))
    (tmp_path / "sky/dark/x.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"mixes FITS images and \.npy files"):
        open_source(tmp_path / "sky")


def test_without_astropy_the_command_is_told(tmp_path: Path) -> None:
    """In an interpreter that cannot import it."""
    folder = classes(tmp_path / "sky")
    door = "from litscope.data.sources.source import open_source"
    code = f"import sys; sys.modules['astropy'] = None; {door}; open_source({str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'litscope[fits]'" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_run_on_fits_images_predicts_others(tmp_path: Path) -> None:
    folder = classes(tmp_path / "sky")
    flags = {"fits_stretch": "linear", "fits_limits": [0.0, 1000.0], "epochs": 6, "arch": "convnet", "val_split": 0.3}
    small_fit(tmp_path / "run", dataset=str(folder), limit_train_batches=None, batch_size=8, dropout_rate=0.0, **flags)
    other = classes(tmp_path / "other")
    for where in (tmp_path / "run", RunDir(tmp_path / "run").last_checkpoint):
        table = predict(where, [other]).table
        right = [p in key for p, key in zip(table["prediction"].to_pylist(), table["key"].to_pylist(), strict=True)]
        assert np.mean(right) >= 0.9
