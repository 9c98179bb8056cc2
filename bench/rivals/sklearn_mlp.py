"""scikit-learn's MLPClassifier on the same table: one pass over the data per turn (`partial_fit`)."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.neural_network import MLPClassifier
from turns import Turns


def main() -> None:
    """Train, and report samples per second."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--hidden", required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    options = parser.parse_args()
    arrays = np.load(options.data)
    x, y = arrays["X"], arrays["y"]
    hidden = [int(width) for width in options.hidden.split(",")]
    net = MLPClassifier(hidden, batch_size=options.batch_size, solver="adam", random_state=0)
    turns = Turns()
    for _ in range(options.epochs):
        turns.begin()
        net.partial_fit(x, y, classes=np.arange(10))
        turns.end(len(y))
    num_parameters = sum(array.size for array in (*net.coefs_, *net.intercepts_))
    turns.finish(int(num_parameters), float(net.score(arrays["X_test"], arrays["y_test"])))


if __name__ == "__main__":
    main()
