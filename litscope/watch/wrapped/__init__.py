"""Parts of a training wrapped one by one, in the interface that users of WeightsLab know.

    parts        watch_or_edit: a part under watch, whatever it is
    watched      what this process watches, and the run that it makes
    guards       blocks that say whether a batch trains
    loaders      a DataLoader that is also an iterator without an end
    losses       a loss that records what it was called for
    batches      what a script tells of a batch
    curves       numbers of a step
    registry     the signals that a script has registered: functions of a sample or a batch
    signals      these, computed when what they need is there
    contexts     what these are given
    memory       named values of samples so far
    samples      tags and discards, asked for by the script
    shapes       what a sample's loss did over the training, in a word
    history      what was recorded, as tuples and as a file
    dataframe    the table of all samples
    exports      files that a script asks for
    services     beginning and end; nothing is served
    processes    which of a run's processes this is
    outside      what is out of scope, and says so

Who may come in: `watch`, whose door it is. It imports what `watch` does.
"""

from litscope.watch.wrapped.batches import save_model_signals, save_signals
from litscope.watch.wrapped.contexts import BatchSignalContext, SignalContext, StaleSignalError
from litscope.watch.wrapped.dataframe import write_dataframe
from litscope.watch.wrapped.guards import guard_testing_context, guard_training_context
from litscope.watch.wrapped.history import (
    get_current_experiment_hash,
    query_sample_history,
    query_signal_history,
    write_history,
)
from litscope.watch.wrapped.outside import (
    ai_report_generation,
    disable_loss_shape_autotag,
    enable_loss_shape_autotag,
    eval_fn,
    export_annotations,
    ledger,
    pointcloud_boxes,
    pointcloud_thumbnail,
    query_instance_history,
    run_pending_evaluation,
    save_group_signals,
    save_instance_signals,
    save_media,
    set_log_directory,
    track_model_signals,
    trigger_pending_evaluation_async,
)
from litscope.watch.wrapped.parts import watch_or_edit
from litscope.watch.wrapped.registry import signal
from litscope.watch.wrapped.samples import (
    discard_samples,
    get_discarded_samples,
    get_samples_by_tag,
    register_categorical_tag,
    set_categorical_tag,
    tag_samples,
)
from litscope.watch.wrapped.services import (
    clear_all,
    drain_signals,
    keep_serving,
    seed_everything,
    serve,
    start_training,
)
from litscope.watch.wrapped.shapes import (
    LOSS_SHAPES,
    auto_loss_shape_signal_names,
    classify_loss_shape,
    enable_loss_shape_signal,
    resolve_signal_classifier,
    signal_classifier,
    trajectory_stats,
    write_loss_shapes,
    write_signal_shapes,
)
from litscope.watch.wrapped.signals import compute_signals

__all__ = [
    "LOSS_SHAPES",
    "BatchSignalContext",
    "SignalContext",
    "StaleSignalError",
    "ai_report_generation",
    "auto_loss_shape_signal_names",
    "classify_loss_shape",
    "clear_all",
    "compute_signals",
    "disable_loss_shape_autotag",
    "discard_samples",
    "drain_signals",
    "enable_loss_shape_autotag",
    "enable_loss_shape_signal",
    "eval_fn",
    "export_annotations",
    "get_current_experiment_hash",
    "get_discarded_samples",
    "get_samples_by_tag",
    "guard_testing_context",
    "guard_training_context",
    "keep_serving",
    "ledger",
    "pointcloud_boxes",
    "pointcloud_thumbnail",
    "query_instance_history",
    "query_sample_history",
    "query_signal_history",
    "register_categorical_tag",
    "resolve_signal_classifier",
    "run_pending_evaluation",
    "save_group_signals",
    "save_instance_signals",
    "save_media",
    "save_model_signals",
    "save_signals",
    "seed_everything",
    "serve",
    "set_categorical_tag",
    "set_log_directory",
    "signal",
    "signal_classifier",
    "start_training",
    "tag_samples",
    "track_model_signals",
    "trajectory_stats",
    "trigger_pending_evaluation_async",
    "watch_or_edit",
    "write_dataframe",
    "write_history",
    "write_loss_shapes",
    "write_signal_shapes",
]
