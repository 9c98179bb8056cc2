"""Only hyperparameters are under watch: the dict follows its file while a loop reads it."""

from pathlib import Path

import litscope.watch as wl

if __name__ == "__main__":
    path = Path("live.yaml")
    path.write_text("optimizer: {lr: 0.001}\n")
    defaults = {"experiment_name": "standalone", "data": {"train_loader": {"batch_size": 16}}}
    found = wl.watch_or_edit(str(path), flag="hyperparameters", defaults=defaults, poll_interval=0)
    wl.serve(serving_grpc=False, serving_cli=False)
    wl.start_training(timeout=3)
    seen = [found["optimizer"]["lr"]]
    path.write_text("optimizer: {lr: 0.0005}\n# another size\n")
    seen.append(found["optimizer"]["lr"])
    assert seen == [0.001, 0.0005]
    assert found["data"]["train_loader"]["batch_size"] == 16
    wl.keep_serving(timeout=None)
