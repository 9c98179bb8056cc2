"""litscope.watch: every sample on record for people who bring their own LightningModule or loop.

Scope            a Lightning callback: `L.Trainer(callbacks=[litscope.watch.Scope()])`
run              a plain PyTorch loop: `with litscope.watch.run(dataset=..., optimizer=...) as run`
watch_or_edit    wrapped parts, in the interface that users of WeightsLab know

with_ids, Loader     a data set whose items carry their id; a DataLoader that follows discards
record, weight_of    what a step may say and ask, wherever it stands

    scope              the Lightning callback
    both_trees         callbacks of lightning.pytorch and of pytorch_lightning
    outputs            what a step of somebody else's LightningModule returned
    loop               the block around a plain loop
    wrapped/           parts of a training wrapped one by one
    hyperparameters    a dict that follows its YAML file
    active             the run that is being watched now, for calls from inside a step
    session            one watched run: opens the folder, records, applies actions, closes all in order
    epochs             the line of each epoch, also of one in which the script was killed
    folder             what the folder says about the script that made it
    samples/           which sample is which, whatever object carries it
    place              where a loop stands
    rows               batches that a loop shows, each visit once, to the ledger
    forms              logits and labels in the forms in which people have them, and advice for all others
    doubts             what only values can tell about them, when they are on the host
    custom             named values on the device, until they are written
    metrics            what a person's own metric says about an epoch
    samplers           discarded samples left out, in place of a loader's own sampler
    rates              a changed learning rate or weight decay, for an optimizer's step
    target             what of a person's own training people can change
    thumbnails         pictures of the samples that people will look at first, when a run ends

Who may come in: nobody of the package; scripts of others do. This room imports the ground floor, `data`, `ledger` and
`live`, and neither `models` nor `training`.
"""

from typing import TYPE_CHECKING, Any

from litscope import __version__
from litscope.watch import scope, wrapped
from litscope.watch.active import record, weight_of
from litscope.watch.both_trees import of_both_trees
from litscope.watch.loop import run
from litscope.watch.samplers import Loader
from litscope.watch.samples.ids import with_ids
from litscope.watch.wrapped import *  # noqa: F403 - the names that users of WeightsLab know, all of them

if TYPE_CHECKING:
    from litscope.watch.scope import Scope

__all__ = ["Loader", "Scope", "__version__", "record", "run", "weight_of", "with_ids"]
__all__ += wrapped.__all__


def __getattr__(name: str) -> Any:
    """`Scope` as it has to be now: a command line of pytorch_lightning asks the class whether it is a callback."""
    if name != "Scope":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return of_both_trees(scope.Scope)
