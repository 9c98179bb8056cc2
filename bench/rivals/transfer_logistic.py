"""A logistic regression on timm's features: frozen network, plain images, scikit-learn's defaults behind a scaler."""

from __future__ import annotations

from pathlib import Path

import timm.data
import torch
import transfer_common as common
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

BATCH = 64


def main() -> None:
    """Compute the features, fit, and test."""
    options = common.arguments()
    net = common.network(options.weights, 0).eval()
    size = options.image_size
    look = timm.data.create_transform(
        (3, size, size), mean=common.MEAN, std=common.STD, interpolation="bicubic", crop_pct=0.875
    )

    @torch.no_grad()
    def features(files: list[Path]) -> Tensor:
        images = [look(Image.open(file).convert("RGB")) for file in files]
        return torch.cat([net(torch.stack(images[at : at + BATCH])) for at in range(0, len(images), BATCH)])

    files = sorted((options.folder / "train").glob("*/*"))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(features(files).numpy(), [file.parent.name for file in files])
    common.finish(lambda some: torch.from_numpy(model.predict_proba(features(some).numpy())), options.test)


if __name__ == "__main__":
    main()
