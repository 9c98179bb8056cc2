"""N networks as the members of one `litscope fit`, and as N fits one after another, by turns.

    python bench/rivals/ensemble_rounds.py --rounds N --counts 1,2,4,8 --again 4 DATASET FLAGS OF litscope fit

Every fit has a process of its own, forked from this one, which has imported all that a fit imports: so what is paid
once for members and N times for runs is what a fit itself does, and the seconds of imports come on top. N fits are the
first N of those of a round. Reports `runs`: {"together N" | "apart N" | "together N again": {figure: [round by round]}}
with `cpu_s` and `wall_s`, and `peak_mib` of the largest process.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from pathlib import Path

from turns import say

Figures = dict[str, float]


def fit_in_a_fork(words: list[str]) -> Figures:
    """Seconds and memory of `litscope fit` with these words.

    Raises:
        SystemExit: if it fails.
    """
    from litscope.config.flags import parse
    from litscope.training.fit import fit

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        child = os.fork()
        if not child:
            code = 1
            try:
                fit(recipe=parse([*words, "--run-dir", str(Path(folder, "run"))]))
                code = 0
            finally:
                if code:
                    traceback.print_exc()
                os._exit(code)
        _, status, usage = os.wait4(child, 0)
        wall_s = time.perf_counter() - began
    if status:
        sys.exit(f"litscope fit {' '.join(words)} failed")
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "wall_s": wall_s, "peak_mib": usage.ru_maxrss / 1024}


def of_several(runs: list[Figures]) -> Figures:
    """The figures of runs one after another."""
    return {
        name: max(run[name] for run in runs) if name == "peak_mib" else sum(run[name] for run in runs)
        for name in runs[0]
    }


def main() -> None:
    """Measure all rounds, after a fit that does not count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--counts", type=lambda text: [int(word) for word in text.split(",")], required=True)
    parser.add_argument("--again", type=int, required=True)
    options, words = parser.parse_known_args()
    fit_in_a_fork(words)
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def keep(name: str, figures: Figures) -> None:
        for figure, value in figures.items():
            found[name][figure].append(round(value, 4))

    for _ in range(options.rounds):
        alone = [fit_in_a_fork([*words, "--seed", str(42 + number)]) for number in range(max(options.counts))]
        for count in options.counts:
            keep(f"apart {count}", of_several(alone[:count]))
            if count > 1:
                keep(f"together {count}", fit_in_a_fork([*words, "--num-members", str(count)]))
        keep(f"together {options.again} again", fit_in_a_fork([*words, "--num-members", str(options.again)]))
    say("end", runs=found)


if __name__ == "__main__":
    main()
