"""What every test may rely on: one thread, no network, a cache of its own, and the real data sets.

`shared_data` is the folder of real data that lies beside the checkout (or at $LITSCOPE_SHARED).
Tests that use it are skipped where it is absent; with LITSCOPE_REQUIRE_SHARED=1, as `.ci/run` sets it
where the folder exists, they fail instead, so that a wrong path cannot hide them. `slurm` is likewise skipped
without Slurm's daemons, and fails with LITSCOPE_REQUIRE_SLURM=1.
"""

from __future__ import annotations

import os

# Before numpy and torch are imported: they read these once. One thread also makes sums repeatable.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["LITSCOPE_STUDIO"] = "0"  # scripts that call watch.serve() open no page; test_beside.py says otherwise

import itertools
import shutil
import signal
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import private_slurm as own_slurm
import pytest
import spared

import litscope  # noqa: F401 - before lightning and torchvision, whose operators it declares where they are missing

ROOT = Path(__file__).resolve().parents[1]

MEETING = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "LOCAL_RANK", "NODE_RANK")
"""Variables that Lightning sets where several processes train, and leaves."""

_test_number = itertools.count()
_known: set[str] = set()
_is_further_case = pytest.StashKey[bool]()

# Without bytecode every process that a test starts would compile the package anew, and pytest every test module.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

spared.spare()


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # under nohup or in the background, and children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_itemcollected(item: pytest.Item) -> None:  # one after the other as they are written, not yet shuffled
    """Of a test marked `thorough` the first case belongs to the fast suite, the others to the slow one."""
    name, _, case = item.nodeid.partition("[")
    if item.get_closest_marker("thorough") is not None and name in _known:
        item.add_marker(pytest.mark.slow)
    item.stash[_is_further_case] = bool(case) and name in _known
    _known.add(name)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--part 1/6`: of the slow tests a half, and of their further cases a sixth, chosen by their names."""
    parser.addoption(
        "--part", metavar="K/N", help="of the further cases of slow tests part K of N, of the tests three in six"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the further cases of slow tests that belong to another part, and half of the tests."""
    part = config.getoption("--part")
    if part is None:
        return
    number, count = map(int, part.split("/"))

    def is_of_another(item: pytest.Item) -> bool:
        drawn = zlib.crc32(item.nodeid.encode())
        parts = {number} if item.stash[_is_further_case] else {number + 1, number + 2, number + 4}
        return drawn % count not in {part % count for part in parts}

    others = [item for item in items if item.get_closest_marker("slow") is not None and is_of_another(item)]
    config.hook.pytest_deselected(items=others)
    left_out = set(others)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def isolation(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An image cache that is this test's own; working directory and environment as before afterwards."""
    before = Path.cwd()
    monkeypatch.setenv("LITSCOPE_CACHE", str(tmp_path_factory.getbasetemp() / f"cache-{next(_test_number)}"))
    told = {name: os.environ.get(name) for name in MEETING}
    yield
    os.chdir(before)
    leave_group()
    for name, value in told.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def leave_group() -> None:
    """End the process group that a training in this process left: processes of other tests must not meet in it."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


@pytest.fixture(autouse=True)
def _drawn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Pictures, for a test that asks for them."""
    if request.node.get_closest_marker("pictures") is None:
        yield
        return
    spared.draw()
    yield
    spared.spare()


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test runs in an empty working directory, where `runs/` and `data/` are its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: CIFAR-10 as JPEG, MNIST as idx.gz, Space Warps as CSV and JPEG."""
    folder = Path(os.environ.get("LITSCOPE_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        message = f"no real data at {folder}; set LITSCOPE_SHARED to the folder that holds data/"
        if os.environ.get("LITSCOPE_REQUIRE_SHARED") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def private_slurm() -> Iterator[own_slurm.PrivateSlurm]:
    """A Slurm of two nodes on this machine, for fixtures that several tests share; skipped where none can start."""
    missing = own_slurm.what_is_missing()
    if missing is not None:
        if os.environ.get("LITSCOPE_REQUIRE_SLURM") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    with own_slurm.running_slurm() as slurm:
        yield slurm


@pytest.fixture
def slurm(private_slurm: own_slurm.PrivateSlurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[own_slurm.PrivateSlurm]:
    """That Slurm as this test's own: `sbatch` and the others find it, and afterwards nothing runs on it."""
    for name, value in private_slurm.environment.items():
        monkeypatch.setenv(name, value)
    yield private_slurm
    private_slurm.clear()


@pytest.fixture(scope="session")
def mnist_dir(shared_data: Path) -> Path:
    """MNIST's four idx.gz files, as they lie there."""
    return shared_data / "mnist"


@pytest.fixture(scope="session")
def cifar10_small(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-10 as `train|test/<class>/NNNN.jpg`: 30 training and 10 test images of each class."""

    def wanted(name: str) -> bool:
        return int(Path(name).stem) < (30 if "/train/" in name else 10)

    return _unpacked(shared_data / "cifar10_jpeg.tar.gz", tmp_path_factory, wanted) / "cifar10"


@pytest.fixture(scope="session")
def spacewarps(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Space Warps survey: `samples.csv` (filepath, label, split, grade, group) and 429 JPEG images."""
    return _unpacked(shared_data / "spacewarps.tar.gz", tmp_path_factory, lambda _: True) / "spacewarps"


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted small run on digits of 12 steps, to compare with. Who changes it, changes a copy."""
    from small_runs import small_fit

    run_dir = tmp_path_factory.mktemp("plain") / "run"
    small_fit(run_dir)
    return run_dir


def _unpacked(archive: Path, factory: pytest.TempPathFactory, wanted: Callable[[str], bool]) -> Path:
    """The folder of an archive's wanted files, unpacked once and shared by all worker processes."""
    base = factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        base = base.parent
    target = base / archive.name.removesuffix(".tar.gz")
    if target.is_dir():
        return target
    aside = factory.mktemp(target.name)
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            if member.isfile() and wanted(member.name):
                tar.extract(member, aside, filter="data")
    try:
        aside.rename(target)
    except OSError:  # another worker was faster
        shutil.rmtree(aside)
    return target


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run compiles its step after three steps, as if it paid."""
    from litscope.training.hardware import cpp_compiler
    from litscope.training.loop import stride

    if cpp_compiler() is None:
        pytest.skip("torch.compile needs a C++ compiler")
    monkeypatch.setattr(stride, "DECIDE_AFTER", 3)
    monkeypatch.setattr(stride, "COMPILE_S", 0.0)
    monkeypatch.setattr(stride, "LEAST_GAIN", 0.0)
