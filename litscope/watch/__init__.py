"""litscope.watch: every sample on record for people who bring their own LightningModule or loop.

Scope            a Lightning callback: `L.Trainer(callbacks=[litscope.watch.Scope()])`
run              a plain PyTorch loop: `with litscope.watch.run(dataset=..., optimizer=...) as run`
watch_or_edit    wrapped parts, in the interface that users of WeightsLab know

with_ids, Loader     a data set whose items carry their id; a DataLoader that follows discards
record, weight_of    what a step may say and ask, wherever it stands
"""

from litscope.watch.active import record, weight_of
from litscope.watch.ids import with_ids
from litscope.watch.loop import run
from litscope.watch.samplers import Loader
from litscope.watch.scope import Scope
from litscope.watch.wrapped import (
    guard_testing_context,
    guard_training_context,
    keep_serving,
    save_signals,
    serve,
    start_training,
    watch_or_edit,
)

__all__ = [
    "Loader",
    "Scope",
    "guard_testing_context",
    "guard_training_context",
    "keep_serving",
    "record",
    "run",
    "save_signals",
    "serve",
    "start_training",
    "watch_or_edit",
    "weight_of",
    "with_ids",
]
