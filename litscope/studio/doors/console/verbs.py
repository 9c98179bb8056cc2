"""What can be typed at the console. Names and options are those of the commands where there is one."""

from __future__ import annotations

from litscope.studio.doors.console.typed import Argument, Verb
from litscope.studio.doors.limits import X_OF_CURVES

SPLITS = ("train", "val", "test")

_CONDITION = Argument("filter", "condition", "only samples that meet it; without one all", "condition")
_SPLIT = Argument("split", "text", "of the samples", "split", SPLITS)
_COUNT = Argument("count", "integer", "how many; -n N is the same")
_SAMPLE = Argument("sample", "text", "its id, its key, or the end of its key", "sample", is_needed=True)
_LOOK = (
    Argument("sort", "text", "columns with commas between them; a minus before one that descends", "sort"),
    Argument("from", "integer", "the first row (default: 1)"),
    _COUNT,
    Argument("columns", "texts", "further columns to show", "column"),
    Argument("sparklines", "flag", "with the probability of the label by epoch"),
    Argument("view", "text", "the id of an earlier answer: its order, whatever changed since"),
)
_CHOSEN = (
    Argument("id", "integers", "samples by sample_id"),
    Argument("key", "texts", "samples by key", "sample"),
    Argument("where", "condition", "all samples that meet a condition", "condition"),
    Argument("rows", "ranges", "rows of the last list, as 1-20"),
    Argument("view", "text", "the list that --rows are of (default: the last)"),
    Argument("without", "integers", "leave these out, by sample_id"),
)
_ASKED = (Argument("note", "text", "why; kept in the journal"),)
_WAIT = Argument("wait", "number", "seconds to wait for the trainer's answer (default: 5 while it trains)")
_DRY = Argument("dry_run", "flag", "say how many samples; write nothing")
_SAMPLES = Argument("samples", "texts", "by id or key", "sample")
_ABOUT_SAMPLES = (*_CHOSEN, *_ASKED, _DRY, _WAIT)
_ABOUT_RUN = (*_ASKED, _DRY, _WAIT)

_LOOKING = (
    Verb("runs", "All runs here, the newest first."),
    Verb("use", "Go over to another run.", (Argument("run", "text", "its name", "run", is_needed=True),)),
    Verb("session", "Who acts here, and whether acting is allowed."),
    Verb("status", "How the run stands: progress, settings, what can be asked of it.", also=("run",)),
    Verb("columns", "The columns of its samples, for conditions and orders."),
    Verb(
        "curves",
        "What was logged.",
        (Argument("names", "texts", "metrics; none: all", "metric"),),
        (
            Argument("x", "text", "what they go by", words=X_OF_CURVES),
            Argument("max_points", "integer", "most points of a curve"),
        ),
    ),
    Verb(
        "journal",
        "What was asked of the run, and what came of it.",
        options=(
            Argument("count", "integer", "how many; -n N is the same"),
            Argument("before", "text", "the id of an action: older ones only"),
        ),
        also=("actions",),
    ),
    Verb("compare", "Runs side by side.", (Argument("runs", "texts", "two or more", "run", is_needed=True),)),
    Verb("list", "Samples that meet a condition.", (_CONDITION,), _LOOK, also=("samples",)),
    Verb("more", "The next rows of the last list.", options=(_COUNT,)),
    Verb("count", "How many samples meet a condition.", (_CONDITION,)),
    Verb(
        "position",
        "Where a sample stands in the last list.",
        (_SAMPLE,),
        (Argument("view", "text", "another list, by its id"),),
    ),
    Verb(
        "worst",
        "The samples that the model finds hardest.",
        (_CONDITION,),
        (
            _COUNT,
            Argument("by", "text", "a column; its bad end comes first (default: mean_loss)", "axis"),
            Argument("split", "text", "default: train", "split", SPLITS),
        ),
    ),
    Verb("facets", "How many samples have which value.", (Argument("by", "text", "", "column", (), True), _CONDITION)),
    Verb(
        "histogram",
        "How the numbers of a column are spread.",
        (Argument("column", "text", "", "axis", (), True), _CONDITION),
        (Argument("bins", "integer", "default: 40"),),
    ),
    Verb(
        "sample",
        "Everything about one sample: visits, scores, actions.",
        (_SAMPLE,),
    ),
    Verb(
        "image",
        "Save the picture of a sample.",
        (_SAMPLE, Argument("file", "text", "a new file", is_needed=True)),
        (Argument("side", "integer", "most pixels of the longer side"),),
    ),
    Verb(
        "review",
        "The samples whose label is probably wrong, to be judged one by one.",
        (_SPLIT,),
        (_COUNT, Argument("skip", "integers", "leave these out, by sample_id")),
        also=("suspects",),
    ),
    Verb(
        "typical",
        "The samples of a class that the network knows best.",
        (Argument("label", "text", "a class", "class", (), True),),
        (Argument("split", "text", "default: train", "split", SPLITS), _COUNT),
    ),
    Verb(
        "map",
        "Samples by two of their numbers, drawn in characters.",
        (_CONDITION,),
        (
            Argument("x", "text", "a column (default: variability)", "axis"),
            Argument("y", "text", "a column (default: confidence)", "axis"),
            Argument("color", "text", "with --json: a column, or tag:NAME", "column"),
            *(Argument(name, "number", "an end of the part in view") for name in ("x0", "x1", "y0", "y1")),
            Argument("width", "integer", "bins (default: 60)"),
            Argument("height", "integer", "bins (default: 20)"),
            Argument("max_points", "integer", "with --json: of so many samples each is a point of its own"),
        ),
    ),
    Verb("confusion", "Which classes are taken for which.", (_SPLIT,), also=("confusions",)),
    Verb("classes", "Each class in a row.", (_SPLIT,)),
    Verb(
        "calibration",
        "Whether probabilities mean what they say.",
        (_SPLIT,),
        (Argument("bins", "integer", "default: 15"),),
    ),
    Verb("sql", "The answer to one SELECT.", (Argument("query", "text", "as it is", is_needed=True),), is_raw=True),
)

_TAG = Argument("tag", "text", "a name", "tag", is_needed=True)
_ACTING = (
    Verb("tag", "Give samples a name.", (_TAG, _SAMPLES), _ABOUT_SAMPLES),
    Verb("untag", "Take that name away again.", (_TAG, _SAMPLES), _ABOUT_SAMPLES),
    Verb("discard", "Leave samples out, from the next batch on.", (_SAMPLES,), _ABOUT_SAMPLES),
    Verb("restore", "Take discarded samples back in.", (_SAMPLES,), _ABOUT_SAMPLES),
    Verb(
        "relabel",
        "Give samples another label; the data set itself is not changed.",
        (_SAMPLES,),
        (Argument("to", "text", "a class, or `believed`", "class"), *_ABOUT_SAMPLES),
    ),
    Verb(
        "reweight",
        "Multiply the loss of samples by a weight.",
        (_SAMPLES,),
        (Argument("weight", "number", "0 or more; 1 is the default"), *_ABOUT_SAMPLES),
    ),
    Verb(
        "set",
        "Change settings while the run trains.",
        (Argument("settings", "texts", "NAME=VALUE, as lr=0.01", "setting", is_needed=True),),
        _ABOUT_RUN,
    ),
    Verb(
        "lr",
        "Change the learning rate; `lr schedule` puts it back on its schedule.",
        (Argument("lr", "text", "a number, or schedule", is_needed=True),),
        _ABOUT_RUN,
    ),
    Verb("pause", "Stop training for a while; the process keeps its memory.", options=_ABOUT_RUN),
    Verb(
        "resume",
        "End a pause; with `schedule` put the learning rate back on its schedule.",
        (Argument("schedule", "text", "", words=("schedule",)),),
        _ABOUT_RUN,
    ),
    Verb("checkpoint", "Write a checkpoint after this step.", options=_ABOUT_RUN),
    Verb("stop", "End the run after this step as if it were complete.", options=_ABOUT_RUN),
    Verb(
        "evaluate",
        "Have the training process evaluate its present weights.",
        (_SPLIT,),
        (Argument("tag", "text", "the samples of a tag in place of a split", "tag"), *_ABOUT_RUN),
    ),
    Verb(
        "undo",
        "Take back the last action, or the one with that id.",
        (Argument("action", "text", "its id"),),
        _ABOUT_RUN,
    ),
)
_OURS = (
    Verb("help", "What can be typed, or how one verb is used.", (Argument("verb", "text", "", "verb"),)),
    Verb("exit", "Leave; runs go on. So does Ctrl-D.", also=("quit",)),
)

ALL = (*_LOOKING, *_ACTING, *_OURS)
"""Every verb, in the order of `help`."""

VERBS = {name: verb for verb in ALL for name in (verb.name, *verb.also)}
"""Every verb, by each of its names."""
