"""Only a model and its optimizer are under watch: nothing is recorded of samples, but the run can be steered."""

import os
from pathlib import Path

import torch
from digits import LABELS, PICTURES, network
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

if __name__ == "__main__":
    os.environ["WEIGHTSLAB_ROOT_LOG_DIR"] = str(Path("logs").absolute())
    import litscope.watch as wl

    loader = DataLoader(TensorDataset(PICTURES[:200], LABELS[:200]), batch_size=20, shuffle=True)
    model = wl.watch_or_edit(
        network(), flag="model", device="cpu", dummy_input=torch.zeros(1, 1, 8, 8), compute_dependencies=True
    )
    optimizer = wl.watch_or_edit(optim.Adam(model.parameters(), lr=0.01), flag="optimizer")
    criterion = nn.CrossEntropyLoss()
    wl.serve(serving_grpc=False, serving_cli=False)
    wl.start_training(timeout=3)
    for _ in range(2):
        for inputs, targets in loader:
            with wl.guard_training_context:
                optimizer.zero_grad()
                criterion(model(inputs), targets).backward()
                optimizer.step()
        getattr(model, "get_age", lambda: 0)()
    print(wl.write_history(path="history.csv", format="csv"))
    wl.keep_serving(timeout=None)
