"""MNIST from its idx files to 99.0 %: seconds of the whole command, beside a plain Lightning script.

    python recipes/mnist_speed.py [--seeds 3] [--data ../shared/data]
    python recipes/mnist_speed.py --seeds 1 --epochs 1 --limit-batches 4      # does it run at all

To 99.4 % it takes more epochs: `python bench/run.py time_to_accuracy` measures both.
The recipe is recipes/mnist_speed.yaml, the rival bench/rivals/lightning_to_accuracy.py.

On two cores of an AMD EPYC, three seeds each: 99.2 to 99.4 % in 27 s (plain Lightning 60 to 70 s), and with 16
epochs 99.4 to 99.5 % in 93 to 110 s (plain Lightning 259 to 276 s); see docs/performance.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))

from to_accuracy import MNIST, main  # noqa: E402

if __name__ == "__main__":
    main(MNIST[0])
