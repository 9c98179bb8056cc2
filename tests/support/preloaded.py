"""What the server of forked.py imports before it forks: what a command and a training import, early or late."""

import importlib
import pkgutil

import litscope

for module in pkgutil.walk_packages(litscope.__path__, "litscope."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)

for name in ("matplotlib.backends.backend_agg", "sklearn.datasets", "spared", "small_runs"):
    importlib.import_module(name)
