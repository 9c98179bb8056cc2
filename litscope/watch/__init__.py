"""litscope.watch: every sample on record for people who bring their own LightningModule or loop.

Scope            a Lightning callback: `L.Trainer(callbacks=[litscope.watch.Scope()])`
run              a plain PyTorch loop: `with litscope.watch.run(dataset=..., optimizer=...) as run`
watch_or_edit    wrapped parts, in the interface that users of WeightsLab know

with_ids, Loader     a data set whose items carry their id; a DataLoader that follows discards
record, weight_of    what a step may say and ask, wherever it stands

    scope              the Lightning callback
    loop               the block around a plain loop
    wrapped            parts of a training wrapped one by one
    hyperparameters    a dict that follows its YAML file
    active             the run that is being watched now, for calls from inside a step
    session            one watched run: opens the folder, records, applies actions, closes all in order
    epochs             the line of each epoch, also of one in which the script was killed
    folder             what the folder says about the script that made it
    ids                data sets whose items carry their id
    roster             the samples of a watched run, and their manifest
    rows               batches that a loop shows, each visit once, to the ledger
    custom             named values on the device, until they are written
    metrics            what a person's own metric says about an epoch
    samplers           discarded samples left out, in place of a loader's own sampler
    rates              a changed learning rate or weight decay, for an optimizer's step
    target             what of a person's own training people can change

Who may come in: nobody of the package; scripts of others do. This room imports the ground floor, `data`, `ledger` and
`live`, and neither `models` nor `training`.
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
