"""Only data are under watch: samples are tagged, discarded and looked up, and nothing is trained."""

from pathlib import Path

from digits import LABELS, PICTURES
from torch.utils.data import Dataset

import litscope.watch as wl


class Slice(Dataset):
    def __init__(self, first, count):
        self.first, self.count = first, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return PICTURES[self.first + index], int(LABELS[self.first + index])


if __name__ == "__main__":
    train_loader, val_loader = (
        wl.watch_or_edit(
            Slice(first, 60),
            flag="data",
            loader_name=name,
            batch_size=8,
            shuffle=name == "train_loader",
            is_training=name == "train_loader",
            compute_hash=False,
            root_log_dir=str(Path("logs").absolute()),
        )
        for name, first in (("train_loader", 0), ("val_loader", 1000))
    )
    wl.serve(serving_grpc=False, serving_cli=False)
    wl.start_training(timeout=3)
    assert len(train_loader.dataset) == 60
    eights = [
        int(ids[i]) for _, ids, targets in train_loader for i in (targets.view(-1) == 8).nonzero().view(-1).tolist()
    ]
    wl.tag_samples(eights, "hard_examples", mode="add")
    first_ids = [int(i) for i in train_loader.wrapped_dataset.unique_ids[:5]]
    wl.discard_samples(first_ids, discarded=True)
    tagged = wl.get_samples_by_tag("hard_examples", origin="train_loader")
    discarded = wl.get_discarded_samples(origin="train_loader")
    assert tagged == sorted(eights)
    assert discarded == first_ids
    remaining = {int(i) for _, ids, _ in train_loader for i in ids}
    assert len(remaining) == 55
    assert not remaining & set(discarded)
    print(wl.write_dataframe(path="curated.csv", format="csv", columns=["discarded", "tag:hard_examples"]))
    wl.keep_serving(timeout=None)
