"""Imports that cost less are the imports that they were."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, sys
from litscope.importing import hasten

hasten()
hasten()
import duckdb  # complains of what is left of it at the end
import torchmetrics
print("after torchmetrics:", "scipy.stats" in sys.modules, gc.isenabled())
import scipy.signal
print("named:", "scipy.stats" in sys.modules)
import scipy.signal.windows
print("after a part of it:", "scipy.stats" in sys.modules)
from scipy.signal import find_peaks, hamming
print("used:", find_peaks([0, 1, 0])[0].tolist(), hamming(3).round(2).tolist(), hamming is scipy.signal.hamming)
print("whole:", type(scipy.signal).__name__, "butter" in dir(scipy.signal), hasattr(scipy.signal, "nothing"))
"""


def test_what_torchmetrics_does_not_use_is_imported_at_its_first_use() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr, done.stdout) == (
        0,
        "",
        "after torchmetrics: False True\n"
        "named: False\n"
        "after a part of it: True\n"
        "used: [1] [0.08, 1.0, 0.08] True\n"
        "whole: module True False\n",
    )
