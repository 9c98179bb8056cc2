"""Run a Python command several times; reports the median wall time and the mean CPU time of a run.

repeated.py N WORDS AFTER python ...
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time

from turns import say


def main() -> None:
    number, words = int(sys.argv[1]), [sys.executable, *sys.argv[2:]]
    wall = []
    for _ in range(number):
        began = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        wall.append(time.perf_counter() - began)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    say("end", wall_s=statistics.median(wall), cpu_s=(usage.ru_utime + usage.ru_stime) / number)


if __name__ == "__main__":
    main()
