"""Virtual environments of rivals, so that none of them shares packages with us or with another.

Each has pinned versions, and the same torch and torchvision as here. It is made by pip when an arm first needs it,
below `--environments` (default ~/.cache/litscope-bench). What cannot be installed is not measured, and the results
say why.

    python bench/environments.py             list
    python bench/environments.py fastai      make one now
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "fastai": ("fastai==2.8.12", "timm==1.0.31"),
    "timm": ("timm==1.0.31",),
    "webdataset": ("webdataset==1.0.2", "pillow"),
    "litdata": ("litdata==0.2.76", "pillow"),
    "weightslab": (
        *(
            "pytorch-lightning>=2.2,<3",
            "torchmetrics>=1.9",
            "numpy<3",
            "pandas>=2.2.2,<3",
            "duckdb>=1.1,<2",
            "PyYAML<7",
        ),
        *("dill<0.5", "zstandard<1", "h5py<4", "xxhash<4.1", "tables<4", "pyarrow<23", "grpcio>=1.80,<2"),
        *("protobuf>=6.31.1,<8", "pydantic<3", "Pillow<12", "graphviz<1", "onnx<=1.20", "tqdm", "python-dotenv<2"),
        *("langchain-core<2", "ipykernel<7", "jupyter_client<9", "ipywidgets>=8.1.8", "matplotlib<4", "psutil<8"),
        "nvidia-ml-py<14",
    ),
}
"""Name -> what is installed beside torch and torchvision."""

WITHOUT_DEPENDENCIES: dict[str, tuple[str, ...]] = {"weightslab": ("weightslab==2.0.2",)}
"""Name -> what is installed last, without its dependencies: it asks for an older torch, and runs with ours."""

FOLDER = Path("~/.cache/litscope-bench")

SHIM = Path(__file__).resolve().parents[1] / "litscope" / "_torchvision.py"
"""Declares two operators, without which torchvision cannot be imported beside a CPU build of torch; the environment
gets a copy and a .pth line that installs it, as `make install` does."""


class NotInstalled(Exception):
    """An environment could not be made; the message is pip's."""


def python_of(name: str | None, folder: Path = FOLDER) -> str:
    """The interpreter of an environment, which is made first if it is missing or has other versions.

    Raises:
        NotInstalled: if pip fails.
    """
    if name is None:
        return sys.executable
    wanted = requirements(name)
    home = folder.expanduser().resolve() / f"{name}-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:8]}"
    python = home / "bin" / "python"
    stamp = home / "installed.txt"
    if not stamp.exists():
        print(f"making the environment {home} ({' '.join(wanted)}) ...", file=sys.stderr, flush=True)
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        alone = WITHOUT_DEPENDENCIES.get(name, ())
        _run([*pip, *(one for one in wanted if one not in alone)])
        if alone:
            _run([*pip, "--no-deps", *alone])
        _put_shim(home)
        stamp.write_text("\n".join(wanted))
    return str(python)


def requirements(name: str) -> tuple[str, ...]:
    """What pip is told: the versions that run here, then the rival's.

    Raises:
        NotInstalled: for a name that is not in `ENVIRONMENTS`.
    """
    if name not in ENVIRONMENTS:
        raise NotInstalled(f"there is no environment {name!r}; there are {', '.join(ENVIRONMENTS)}")
    ours = [f"{package}=={version(package).partition('+')[0]}" for package in ("torch", "torchvision")]
    return (*ours, *ENVIRONMENTS[name], *WITHOUT_DEPENDENCIES.get(name, ()))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise NotInstalled(f"pip: {errors[0] if errors else 'no message'}")


def _put_shim(home: Path) -> None:
    packages = next(home.glob("lib/python3*/site-packages"))
    (packages / "bench_torchvision.py").write_text(SHIM.read_text())
    (packages / "bench_torchvision.pth").write_text("import bench_torchvision; bench_torchvision.install()\n")


def main() -> None:
    """List the environments, or make those that are named."""
    if not sys.argv[1:]:
        for name in ENVIRONMENTS:
            print(f"{name:<12} {' '.join(requirements(name))}")
    for name in sys.argv[1:]:
        try:
            print(python_of(name))
        except NotInstalled as error:
            sys.exit(f"{name}: {error}")


if __name__ == "__main__":
    main()
