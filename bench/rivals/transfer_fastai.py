"""fastai's `vision_learner` and `fine_tune`, as its documentation shows them: `aug_transforms()`, all defaults.

It would ask the hub for timm's weights; here they come from the file, with their normalisation.
"""

from __future__ import annotations

import torch
import transfer_common as common
from fastai.vision.all import ImageDataLoaders, Normalize, Resize, aug_transforms, set_seed, vision_learner


def main() -> None:
    """Train, and test."""
    options = common.arguments()
    set_seed(options.seed)
    data = ImageDataLoaders.from_folder(
        options.folder,
        train="train",
        valid="val",
        item_tfms=Resize(options.image_size),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(common.MEAN, common.STD)],
        bs=32,
        num_workers=0,
        device=torch.device("cpu"),
    )
    learner = vision_learner(data, common.ARCH, pretrained=False, normalize=False)
    missing = learner.model[0].model.load_state_dict(torch.load(options.weights, weights_only=True), strict=False)
    assert not missing.missing_keys, missing
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(options.epochs)
        common.finish(lambda files: learner.get_preds(dl=data.test_dl(files))[0], options.test)


if __name__ == "__main__":
    main()
