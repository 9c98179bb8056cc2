"""litscope: train classifiers on PyTorch Lightning, and see and steer every sample while they train."""

__version__ = "0.1.0"
