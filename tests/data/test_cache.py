"""The pixel cache: right pixels, one build for two runs, nothing half-built is ever taken for whole."""

import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import forked
import numpy as np
import pytest
from PIL import Image
from places import SUPPORT

from litscope.data.reading import cache
from litscope.data.reading.cache import PixelCache, cache_key, open_cache, pays
from litscope.data.reading.decoding import resize
from litscope.errors import DataError

NUM = 40


@dataclass
class Files:
    """A reader of PNG files that notes each read in a log, so that reads by other processes count too."""

    folder: Path
    delay_s: float = 0.0
    kind: str = "image"
    channels: int = 3
    array: None = None

    @property
    def dtype(self):
        return np.dtype(np.uint8)

    def path(self, sample_id):
        return self.folder / f"{sample_id}.png"

    def size(self, sample_id):
        with Image.open(self.path(sample_id)) as image:
            return image.size[::-1]

    def foreseeing(self, ids):
        return nullcontext(self)

    def read(self, sample_id, min_side=0):
        time.sleep(self.delay_s)
        with (self.folder / "reads").open("a") as log:
            log.write(f"{sample_id}\n")
        try:
            return np.asarray(Image.open(self.path(sample_id)).convert("RGB"))
        except OSError as error:
            raise DataError(f"{self.path(sample_id)}: {error}") from error

    def fingerprint(self):
        stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self.folder.glob("*.png")]
        return str(sorted(stats))

    def num_reads(self):
        return len((self.folder / "reads").read_text().splitlines())


@pytest.fixture
def reader(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for sample_id in range(NUM):
        Image.fromarray(random.integers(0, 256, (30, 20 + sample_id, 3), dtype=np.uint8)).save(
            folder / f"{sample_id}.png"
        )
    return Files(folder)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "cache"


IDS = np.arange(NUM)


def hidden(folder):
    return [path for path in folder.iterdir() if path.name.endswith(".tmp")]


def test_rows_are_the_resized_images_of_their_ids(reader, store):
    built = open_cache(reader, IDS, 16, cache_dir=store)
    assert built.pixels.shape == (NUM, 16, 16, 3)
    for sample_id in IDS:
        assert np.array_equal(built.pixels[sample_id], resize(reader.read(sample_id), 16))
    assert built.broken == {}


def test_a_second_opening_decodes_nothing(reader, store):
    first = open_cache(reader, IDS, 16, cache_dir=store)
    again = open_cache(reader, IDS, 16, cache_dir=store)
    assert reader.num_reads() == NUM
    assert np.array_equal(first.pixels, again.pixels)
    assert hidden(store) == []


def test_writing_to_the_pixels_never_reaches_the_file(reader, store):
    built = open_cache(reader, IDS, 16, cache_dir=store)
    built.pixels[0] = 7
    assert not np.array_equal(open_cache(reader, IDS, 16, cache_dir=store).pixels[0], built.pixels[0])


def test_the_key_covers_content_size_and_ids(reader):
    key = cache_key(reader, IDS, 16)
    assert key == cache_key(Files(reader.folder), IDS, 16)
    assert key != cache_key(reader, IDS, 17)
    assert key != cache_key(reader, IDS[:-1], 16)
    os.utime(reader.path(3), ns=(1, 1))
    assert key != cache_key(reader, IDS, 16)


def test_broken_images_are_recorded_under_their_own_id(reader, store):
    reader.path(5).write_bytes(b"not an image")
    built = open_cache(reader, IDS, 16, cache_dir=store)
    assert list(built.broken) == [5]
    assert "5.png" in built.broken[5]
    assert not built.pixels[5].any()
    assert np.array_equal(built.pixels[6], resize(reader.read(6), 16))
    assert open_cache(reader, IDS, 16, cache_dir=store).broken == built.broken


def test_ids_that_were_not_asked_for_stay_empty(reader, store):
    built = open_cache(reader, IDS[10:20], 16, cache_dir=store)
    assert built.pixels.shape[0] == 20
    assert not built.pixels[:10].any()
    assert built.pixels[10:].any()


def test_a_pickled_cache_holds_a_name_not_the_pixels(reader, store):
    built = open_cache(reader, IDS, 16, cache_dir=store)
    pickled = pickle.dumps(built)
    assert len(pickled) < 1000
    assert np.array_equal(pickle.loads(pickled).pixels, built.pixels)


def test_a_damaged_cache_is_built_again(reader, store, capsys):
    built = open_cache(reader, IDS, 16, cache_dir=store)
    os.truncate(built.folder / "pixels.npy", 500)
    assert np.array_equal(open_cache(reader, IDS, 16, cache_dir=store).pixels[3], resize(reader.read(3), 16))
    assert "damaged" in capsys.readouterr().err


def test_an_error_while_building_leaves_nothing(reader, store, monkeypatch):
    class Odd(Files):
        def read(self, sample_id, min_side=0):
            if sample_id == 33:
                raise RuntimeError("a bug, not a broken file")
            return super().read(sample_id)

    with pytest.raises(RuntimeError, match="a bug"):
        open_cache(Odd(reader.folder), IDS, 16, cache_dir=store)
    assert [path.suffix for path in store.iterdir()] == [".lock"]


def test_a_full_disk_is_an_error_before_and_while_building(reader, store, monkeypatch):
    monkeypatch.setattr(cache, "room_bytes", lambda folder: 1000)
    with pytest.raises(DataError, match="--no-cache"):
        open_cache(reader, IDS, 16, cache_dir=store)


def test_a_folder_that_cannot_be_written_is_an_error_or_means_streaming(reader, tmp_path):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "cache"
    assert pays(reader, IDS, 16, folder)[0] is False
    with pytest.raises(DataError, match="--cache-dir"):
        open_cache(reader, IDS, 16, cache_dir=folder)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = {path!r}
from test_cache import IDS, Files, open_cache
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    open_cache(Files(Path({folder!r})), IDS, 64, cache_dir=Path({store!r}))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_a_disk_that_fills_up_meanwhile_is_an_error_and_leaves_nothing(reader, store):
    """A file-size limit stands in for the full disk: the same system calls fail."""
    code = FULL_DISK.format(
        path=[str(Path(__file__).parent), str(SUPPORT)], folder=str(reader.folder), store=str(store)
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("DataError The disk was full"), done.stdout + done.stderr
    assert [path.suffix for path in store.iterdir()] == [".lock"]


def _build_slowly(folder, store):
    open_cache(Files(folder, delay_s=0.05), IDS, 16, cache_dir=store, num_threads=1)


def test_a_killed_build_leaves_nothing_that_is_taken_for_whole(reader, store):
    builder = forked.server().Process(target=_build_slowly, args=(reader.folder, store))
    builder.start()
    reads = reader.folder / "reads"
    deadline = time.monotonic() + 60
    while not (reads.exists() and reader.num_reads() > 5):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    assert len(hidden(store)) == 1
    key = cache_key(reader, IDS, 16)
    assert PixelCache.load(store / key) is None
    reads.unlink()
    built = open_cache(reader, IDS, 16, cache_dir=store)
    assert reader.num_reads() == NUM
    assert np.array_equal(built.pixels[39], resize(reader.read(39), 16))
    assert hidden(store) == []


@pytest.mark.slow
def test_two_runs_at_once_build_once(reader, store):
    context = forked.server()
    runs = [context.Process(target=_build_slowly, args=(reader.folder, store)) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0, 0]
    assert reader.num_reads() == NUM
    assert hidden(store) == []


def test_without_locks_the_first_rename_wins(reader, store):
    first = open_cache(reader, IDS, 16, cache_dir=store)
    cache._build(reader, IDS, 16, first.folder, 2, progress=False)  # a second builder comes second
    assert hidden(store) == []
    assert np.array_equal(open_cache(reader, IDS, 16, cache_dir=store).pixels, first.pixels)


def test_it_pays_when_it_fits(reader, store, monkeypatch):
    assert pays(reader, IDS, 16, store) == (True, "")
    monkeypatch.setattr(cache, "memory_bytes", lambda: 10_000)
    assert pays(reader, IDS, 16, store)[0] is False
    assert "memory" in pays(reader, IDS, 16, store)[1]
    monkeypatch.undo()
    monkeypatch.setattr(cache, "room_bytes", lambda folder: 100)
    assert "that may be written" in pays(reader, IDS, 16, store)[1]
    monkeypatch.undo()
    open_cache(reader, IDS, 16, cache_dir=store)
    monkeypatch.setattr(cache, "room_bytes", lambda folder: 100)
    assert pays(reader, IDS, 16, store) == (True, ""), "it is there already"


def test_memory_and_disk_are_measured(tmp_path):
    assert 10**8 < cache.memory_bytes() < 10**14
    assert cache.room_bytes(tmp_path / "not" / "there") > 0
