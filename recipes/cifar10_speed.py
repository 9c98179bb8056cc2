"""CIFAR-10 from JPEG files to 90 %: seconds of the whole command, beside a plain Lightning script.

    python recipes/cifar10_speed.py [--seeds 3] [--data ../shared/data]
    python recipes/cifar10_speed.py --seeds 1 --epochs 1 --limit-batches 4      # does it run at all

The recipe is recipes/cifar10_speed.yaml, the rival bench/rivals/lightning_to_accuracy.py.

On one core of an AMD EPYC, three seeds each: litscope 90.5 % in 2,141 s of CPU (2,108 to 2,175), the Lightning script
90.3 % in 2,372 s (2,311 to 2,439). See docs/performance.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))

from to_accuracy import CIFAR, main  # noqa: E402

if __name__ == "__main__":
    main(CIFAR)
