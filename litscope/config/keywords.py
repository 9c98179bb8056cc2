"""FitKeywords: the keywords of `litscope.fit` and of all calls that train by its flags, for type checkers.

Written by `scripts/keywords.py` from the tables of settings; to change it, change those.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, TypedDict


class FitKeywords(TypedDict, total=False):
    """Every flag of `litscope fit` but the data set, and every further name of one, with underscores."""

    config: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
    """A YAML file of settings; may be given several times, later ones win."""
    preset: str | None
    """A block of lightning_presets: in a file, or single_gpu, multi_gpu_ddp."""
    arch: str | None
    """Architecture: any timm or torchvision classifier, `convnet` or `whitenet` (small images) or `mlp`. Default:
    chosen from the data.
    """
    model: str | None
    """The same as `arch`."""
    model_type: str | None
    """single trains one network; ensemble several whole ones at once, each with weights of its own, whose answers
    become one. Default: single, but ensemble with --archs, and where --num-members are whole networks.
    """
    archs: Sequence[str] | str
    """Architectures of an ensemble, one for each member (resnet18,resnet34,vit_b_16); of more --num-members they
    take turns. Default: what one network would be.
    """
    architectures: Sequence[str] | str
    """The same as `archs`."""
    ensemble_strategy: Literal["mean", "median", "vote", "weighted", "uncertainty_weighted", "stacked"]
    """How the answers of the members become one: mean, median or vote; or a rule that learns on validation data, at
    the end of a run: weighted, stacked (a temperature each, then weights, then a temperature) or
    uncertainty_weighted (by the scatter of passes with dropout). One of: mean, median, vote, weighted,
    uncertainty_weighted, stacked.
    """
    hidden: Sequence[int] | str
    """Widths of the hidden layers of an mlp, from its input on (256,256). Default: 256,256."""
    num_classes: int | None
    """Number of classes; checked against the data. Default: what the data hold."""
    pretrained: bool | None
    """Start from pretrained weights. Default: where they help and can be had, else from scratch, said in one line."""
    no_pretrained: bool
    """The other way of `pretrained`."""
    weights: str | os.PathLike[str] | None
    """Weights to start from: a file, a run or a checkpoint of one, or a name at timm (resnet18.a1_in1k), the Hugging
    Face hub (hf-hub:OWNER/NAME) or torchvision (torchvision:ResNet50_Weights.IMAGENET1K_V2). The head is kept where
    its classes are these, or its shape is this one and no names are known.
    """
    finetune: Literal["auto", "head", "lp-ft", "full"]
    """What is trained of a network that starts from weights: head (its last layer, on features that are computed
    once), lp-ft (the last layer first, then all), or full (all at once). Default: chosen from the data and the
    device. One of: auto, head, lp-ft, full.
    """
    body_lr_scale: float | None
    """Learning rate of all but the last layer, as a share of --lr. Default: 1 from scratch and with a --lr of yours,
    else chosen.
    """
    layer_decay: float | None
    """Learning rate of each layer as a share of that of the layer after it, for networks of timm. Default: 0.75 for
    transformers that start from weights, with a --lr of yours and for others 1.
    """
    freeze_norms: bool | None
    """Keep the running statistics of batch norms as the weights brought them. Default: where a network that starts
    from weights is trained in batches of fewer than 64.
    """
    no_freeze_norms: bool
    """The other way of `freeze_norms`."""
    feature_views: int
    """With --finetune head: views of each training image, augmented as in as many epochs, that training takes turns
    with. 0 trains on the images as they are.
    """
    task: Literal["multiclass", "binary"]
    """multiclass (a logit for each class) or binary: of two classes one logit, a sigmoid head; all else sees the two
    logits (0, z). One of: multiclass, binary.
    """
    dropout_rate: float | None
    """Dropout before the classifier head, in [0, 1). Default: 0; with --ensemble-strategy uncertainty_weighted 0.2."""
    in_channels: int | None
    """Number of image bands; checked against the data. Default: what the data hold."""
    num_members: int
    """Train this many networks at once, each from weights of its own; what is recorded and predicted is their common
    answer, see --ensemble-strategy. With --finetune head: as many heads over the same features.
    """
    member_lr: Sequence[float] | str
    """A learning rate for each member; those of an mlp, and heads, then start from the same weights. Default: one
    for all, or of several architectures that of each alone.
    """
    member_weight_decay: Sequence[float] | str
    """A weight decay for each member; those of an mlp, and heads, then start from the same weights. For adamw.
    Default: one for all.
    """
    member_image_size: Sequence[int] | str
    """Side of the square that each of several whole networks sees, in pixels; resized on the device from
    --image-size, by default the largest of them. Default: what each would see alone.
    """
    member_seed: Sequence[int] | str
    """The seed of the first weights of each member. Default: --seed, and the numbers after it."""
    compile: bool
    """Compile the network with torch.compile (needs a C++ compiler)."""
    compile_model: bool
    """The same as `compile`."""
    no_compile: bool
    """The other way of `compile`."""
    no_compile_model: bool
    """The other way of `compile_model`."""
    use_webdataset: bool
    """Train on shards: the tar files that --train-urls names."""
    no_use_webdataset: bool
    """The other way of `use_webdataset`."""
    train_urls: str | Sequence[str] | None
    """Shards to train on: paths or URLs (file, http, https, s3, gs), also with braces, train-{0000..0099}.tar; `::`
    stands between several.
    """
    val_urls: str | Sequence[str] | None
    """Shards that validate. Default: --val-split of the samples to train on."""
    test_urls: str | Sequence[str] | None
    """Shards of the test set."""
    endpoint_url: str | None
    """Shards: the address of another S3 server than Amazon's, http://host:port. Default: $AWS_ENDPOINT_URL."""
    data_dir: str | os.PathLike[str]
    """Where named data sets are, or are downloaded to. Without a data set, the folder is the data."""
    data_root: str | os.PathLike[str]
    """The same as `data_dir`."""
    download: bool
    """Download a named data set that is not under the data folder."""
    no_download: bool
    """The other way of `download`."""
    target: str | None
    """Tables: the column that holds the label. Default: `label`, `target` or `class`."""
    val_split: float
    """Share of the training data used for validation when the data bring no validation split, in [0, 1)."""
    test_split: float
    """Share of the data set aside as test set when the data bring none, in [0, 1)."""
    num_folds: int | None
    """Cross-validation: divide the training and validation data into this many folds, instead of --val-split."""
    fold: int | None
    """The fold that validates, from 0. Default: with as many --num-members as folds, each member leaves one out."""
    fold_tests: bool
    """The fold tests instead of validating, and --val-split is drawn from the others: the fold chooses nothing then."""
    no_fold_tests: bool
    """The other way of `fold_tests`."""
    split_seed: int | None
    """Seed of the splits alone. Default: the training seed."""
    group_column: str | None
    """Column whose rows of one value stay in one split, or `none`. Default: `group` where a list of images has it."""
    image_column: str | None
    """Lists of images: the column of their paths; `none`: the file is a table. Default: by its name and values."""
    image_root: str | os.PathLike[str] | None
    """Lists of images: the folder that relative paths start from. Default: that of the list."""
    channels: Literal["first", "last"] | None
    """Images in .npz and .npy files: the axis of each that is its channels. Default: as their shape says. One of:
    first, last.
    """
    positive_class: str | None
    """The positive one of two classes, of which precision, recall, AUROC and thresholds tell; it becomes the second.
    Default: the second as their names are ordered.
    """
    soft_label_column: Sequence[str] | str
    """CSV and Parquet files: the column with a grade of each row, which over the largest is how likely the positive
    class is; or, for several classes, a column for each, named as it is (a,b,c). It is what training aims at;
    metrics go by the label column, and where there is none (--target none) by a grade of 0.5.
    """
    soft_label_max: float | None
    """The grade of --soft-label-column that is certain. Default: the largest, and 1 where none is above it."""
    fits_stretch: Literal["asinh", "zscale", "linear", "log"] | None
    """FITS images: the curve by which values between the limits become numbers from 0 to 1. Default: asinh. One of:
    asinh, zscale, linear, log.
    """
    fits_limits: Sequence[float] | str
    """FITS images: the two values that become 0 and 1 (0,100). Default: each band's 0.5 and 99.5 percentile in each
    image; of zscale IRAF's.
    """
    sampler: Literal["uniform", "balanced", "weighted"]
    """How an epoch draws as many training samples as there are: uniform (each once), balanced (every class equally
    often) or weighted (in proportion to the weights of `litscope reweight`); a sample may then come several times.
    One of: uniform, balanced, weighted.
    """
    shuffle_window: str | None
    """Shards: bytes of stored images from which an epoch draws at a time, so that storage is read in large pieces,
    such as 4G. What fits as a whole is shuffled as a whole. Default: 1G.
    """
    batch_size: int | None
    """Samples per step and device. Default: chosen from the data."""
    num_workers: int | None
    """Threads that decode images. Default: one per core, 0 for data in memory."""
    pin_memory: bool | None
    """Page-locked batches for faster copies to a GPU. Default: on with a GPU."""
    no_pin_memory: bool
    """The other way of `pin_memory`."""
    image_size: int | None
    """Side of the square image that the network sees, in pixels. Default: chosen from the data and the weights."""
    crop_pct: float | None
    """Share of an image's shorter side that the network sees in evaluation, cropped in the middle. Default: that of
    the weights; from scratch 224/256 from 128 pixels on, else all.
    """
    interpolation: Literal["bilinear", "bicubic"] | None
    """How images are resampled to their size. Default: that of the weights; from scratch bilinear. One of: bilinear,
    bicubic.
    """
    augment: Literal["none", "default", "strong", "autoaugment"] | bool
    """Random changes of training images: none, default (crop, flip), strong (also colour, rotation, erasing),
    autoaugment. One of: none, default, strong, autoaugment.
    """
    augmentation: Literal["none", "default", "strong", "autoaugment"] | bool
    """The same as `augment`."""
    no_augment: bool
    """The other way of `augment`."""
    crop_padding: int | None
    """Pixels by which images of at most 64 pixels are padded before their random crop. Default: an eighth of their
    side.
    """
    tta: Literal["none", "flip", "shift"]
    """How the test, `evaluate` and `predict` look at an image: none, flip (the mean of its logits and its mirror
    image's) or shift (also of both, moved slightly in two directions). Validation during training does without. One
    of: none, flip, shift.
    """
    test_time_augmentation: Literal["none", "flip", "shift"]
    """The same as `tta`."""
    cache: bool | None
    """Decode images once into a memory-mapped cache. Default: when it fits in memory and on the disk."""
    no_cache: bool
    """The other way of `cache`."""
    cache_dir: str | os.PathLike[str] | None
    """Folder of the caches. Default: $LITSCOPE_CACHE, else ~/.cache/litscope."""
    cache_size: str | None
    """Shards elsewhere: bytes of them that are kept on this machine's disk, such as 200G. Default: with --cache-dir
    a quarter of its disk, else none.
    """
    storage_timeout: float
    """Shards elsewhere: seconds for which a server that does not answer is asked again, before the run ends."""
    strict_data: bool
    """Stop at the first unreadable file, instead of setting it aside and reporting it."""
    no_strict_data: bool
    """The other way of `strict_data`."""
    on_bad_data: Literal["skip", "stop"]
    """What becomes of samples that cannot be read: skip (each is told and left out; more than 1 % while it trains,
    or of shards, end the run) or stop (at the first, as --strict-data). One of: skip, stop.
    """
    actions: str | os.PathLike[str] | None
    """Decisions to start with (discards, labels, weights, tags): those of a run, or a file that `litscope export
    --to actions` wrote.
    """
    epochs: int | None
    """Passes over the training data. Default: chosen from the data."""
    max_epochs: int | None
    """The same as `epochs`."""
    max_steps: int | None
    """Stop after this many optimizer steps."""
    max_time: str | None
    """Stop after this time: DD:HH:MM:SS, HH:MM:SS or a number with a unit (90s, 30m, 2h)."""
    lr: float | None
    """Learning rate at the schedule's peak. Default: chosen from the data."""
    learning_rate: float | None
    """The same as `lr`."""
    scale_lr: Literal["none", "linear", "sqrt"]
    """What several devices make of --lr, the rate of one: none (the same rate), linear (times their number; Goyal et
    al. 2017) or sqrt (times its root). One of: none, linear, sqrt.
    """
    scale_lr_devices: int | None
    """How many devices --scale-lr counts. Default: those of the run; a run that goes on keeps the number."""
    optimizer: str
    """adamw, adam, sgd (Nesterov), rmsprop, or any optimizer name that timm knows."""
    weight_decay: float | None
    """Weight decay; never applied to norms and biases. Default: 0.05 for adamw, 5e-4 for sgd, 0 for adam."""
    momentum: float
    """Momentum of sgd and rmsprop; the first beta of the Adam family."""
    scheduler_type: Literal["cosine", "onecycle", "step", "plateau", "constant"]
    """How the learning rate changes: cosine to zero, one cycle, ten-fold steps, on plateaus of the monitor, or not
    at all. One of: cosine, onecycle, step, plateau, constant.
    """
    scheduler: Literal["cosine", "onecycle", "step", "plateau", "constant"]
    """The same as `scheduler_type`."""
    warmup_epochs: float | None
    """Epochs of linear warm-up from near zero. Default: a twentieth of the run, at most five epochs."""
    label_smoothing: float
    """Share of the target spread over all classes, in [0, 1)."""
    mixup: float
    """Alpha of mixup (Zhang et al. 2018); 0 is off."""
    cutmix: float
    """Alpha of CutMix (Yun et al. 2019); 0 is off. With both, each batch draws one of the two."""
    class_weights: str | os.PathLike[str]
    """Weights of the classes in the loss: none, balanced (inverse frequency), or a JSON or CSV file of class,weight."""
    loss: Literal["cross_entropy", "focal"]
    """cross_entropy, or focal (Lin et al. 2017). One of: cross_entropy, focal."""
    focal_gamma: float | None
    """How much less --loss focal counts samples that the network is already sure of; 0 is cross_entropy. Default: 2."""
    logit_adjustment: float
    """Tau of the logit-adjusted loss (Menon et al. 2021), 1 in the paper: training sees the logits plus tau log of
    the classes' shares, and nothing else does, so that rare classes are predicted as if they were not; 0 is off.
    """
    robust: Literal["none", "gce", "elr", "small_loss"]
    """What is done about wrong labels: none, gce (generalised cross-entropy; Zhang and Sabuncu 2018), elr
    (early-learning regularisation; Liu et al. 2020) or small_loss (of each class, samples with large losses do not
    count; Han et al. 2018). One of: none, gce, elr, small_loss.
    """
    gce_q: float | None
    """q of --robust gce: near 0 it is cross-entropy, at 1 the mean absolute error. Default: 0.7."""
    elr_lambda: float | None
    """Strength of --robust elr. Default: 3."""
    elr_beta: float | None
    """Share of the past in the running targets of --robust elr. Default: 0.7."""
    small_loss_share: float | None
    """Share of each class that --robust small_loss passes over, about that of its wrong labels. Default: estimated
    from the losses of each class before each epoch.
    """
    ema_decay: float
    """Decay of an exponential moving average of the weights, used for validation and kept in checkpoints; 0 is off."""
    gradient_clip_val: float | None
    """Clip the gradient's norm to this value."""
    accumulate_grad_batches: int
    """Batches per optimizer step."""
    steps_per_call: int | Literal["auto"]
    """Largest number of optimizer steps in one call of Lightning's loop, or auto; 1 is one step at a time."""
    early_stopping: bool
    """Stop when the monitor no longer improves."""
    no_early_stopping: bool
    """The other way of `early_stopping`."""
    patience: int | None
    """Epochs without improvement before early stopping. Alone it turns early stopping on. Default: 5."""
    min_delta: float
    """Smallest change of the monitor that counts as an improvement."""
    monitor: str | None
    """Metric that decides the best checkpoint. Default: val/accuracy, val/loss with few validation samples, val/ap
    for a rare positive class, train/loss without validation.
    """
    mode: Literal["min", "max"] | None
    """Whether the monitor should fall (min) or rise (max). Default: follows from its name. One of: min, max."""
    checkpoint_dir: str | os.PathLike[str] | None
    """Folder of the checkpoints. Default: checkpoints/ in the run's folder."""
    checkpoint_format: Literal["full", "sharded"]
    """Under fsdp: full (one file, gathered on the first process) or sharded (a file of each process beside it). One
    of: full, sharded.
    """
    save_top_k: int
    """How many of the best checkpoints are kept; -1 keeps all, 0 none."""
    calibrate: Literal["none", "temperature", "vector"]
    """How the logits of the best weights are scaled, learned on the validation split at the end and kept with them:
    none, temperature or vector; see `litscope calibrate`. One of: none, temperature, vector.
    """
    threshold: str | None
    """Of two classes: the aim of a threshold, learned and kept likewise: f1, youden, precision:0.9, recall:0.95 or
    fpr:0.001. Default: the more probable class is predicted.
    """
    coverage: float | None
    """How often a set of classes is to hold the true one (0.9), by a limit that is learned and kept likewise.
    Default: no sets are made.
    """
    save_last: bool
    """Keep last.ckpt, from which an interrupted run resumes exactly."""
    no_save_last: bool
    """The other way of `save_last`."""
    checkpoint_every: str
    """How often last.ckpt is also written in the middle of an epoch: 500steps, or a time (15m, 90s, 1h). So much may
    be lost where a node dies.
    """
    resume: str | os.PathLike[str] | None
    """Continue a run: a checkpoint file, a run's folder, `last` or `best` (of --run-dir or --name, else of the
    newest run).
    """
    resume_from_checkpoint: str | os.PathLike[str] | None
    """The same as `resume`."""
    prune: Literal["none", "infobatch", "random"]
    """Leave training samples out of an epoch: infobatch (some of those with low loss, at random; Qin et al. 2024),
    random (its control), none. The first epoch and the last eighth visit all samples. One of: none, infobatch,
    random.
    """
    prune_ratio: float | None
    """Share of the samples with low loss (for random: of all) that an epoch leaves out, more than 0 and less than 1.
    Default: 0.5.
    """
    canaries: float
    """Share of training samples that get a wrong label for a while, to measure how well `litscope suspects` finds
    wrong labels, in [0, 0.5); 0 is off. It takes 5 epochs or more.
    """
    seed: int
    """Seed of weights, order, augmentation and splits."""
    deterministic: bool
    """Use deterministic algorithms only, so that runs repeat bit for bit on a GPU too."""
    no_deterministic: bool
    """The other way of `deterministic`."""
    fast_dev_run: bool
    """Run one batch of training, validation and test, to see whether everything works."""
    no_fast_dev_run: bool
    """The other way of `fast_dev_run`."""
    limit_train_batches: int | float | None
    """Training batches used in each epoch: a whole number counts them (10), a decimal is a share (0.5; 1.0 is all)."""
    limit_val_batches: int | float | None
    """Validation batches used in each epoch: a number or a share, as for --limit-train-batches; 0 validates on none."""
    limit_test_batches: int | float | None
    """Test batches used: a number or a share, as for --limit-train-batches; 0 tests on none."""
    overfit_batches: int | float | None
    """Train and validate on this number or share of training batches, the same in each epoch."""
    accelerator: str
    """auto, cpu, gpu (cuda), mps."""
    devices: str | int | Sequence[int]
    """How many devices (2), which ones (0,3), or auto: one for each process that srun or torchrun started on a
    machine, else every GPU, or one CPU process.
    """
    gpus: str | int | Sequence[int]
    """The same as `devices`."""
    num_nodes: int | None
    """Number of machines, or auto: as many as srun or torchrun started the run on, else one. Without these, start
    the same command on each, with NODE_RANK, MASTER_ADDR and MASTER_PORT set.
    """
    nodes: int | None
    """The same as `num_nodes`."""
    rank_timeout: float
    """Seconds after which a run on several devices ends, if one of its processes is stopped, killed or cut off."""
    strategy: str
    """How several devices share the work: auto and ddp (each has the whole network),
    ddp_find_unused_parameters_true, fsdp or fsdp_full (each keeps a share of weights, gradients and optimizer
    state), fsdp_shard_grad (weights stay together from forward to backward), no_shard (is ddp), ddp_spawn (is ddp).
    """
    fsdp_wrap: str
    """Which parts of the network are gathered one at a time under fsdp: block (its repeated blocks), size:1e6 (parts
    with so many parameters), auto (blocks, else size:1e6).
    """
    cpu_offload: bool
    """Keep each share of an fsdp strategy in the CPU's memory while it is not in use (GPUs only)."""
    no_cpu_offload: bool
    """The other way of `cpu_offload`."""
    activation_checkpointing: bool
    """Compute the inside of each block of the network again in the backward pass, instead of keeping it in memory."""
    no_activation_checkpointing: bool
    """The other way of `activation_checkpointing`."""
    precision: (
        Literal[
            "auto", "16", "bf16", "32", "64", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "32-true", "64-true"
        ]
        | Literal[16, 32, 64]
    )
    """auto (bf16-mixed on a GPU that supports it, and on a CPU if the network is clearly faster with it; else 32),
    32, bf16, 16, or Lightning's full names. One of: auto, 16, bf16, 32, 64, 16-mixed, bf16-mixed, 16-true,
    bf16-true, 32-true, 64-true.
    """
    channels_last: bool | None
    """Keep images and weights in channels-last memory. Default: if the network takes it, and is not clearly slower
    with it on a CPU.
    """
    no_channels_last: bool
    """The other way of `channels_last`."""
    num_threads: int | None
    """torch's threads in each process on a CPU. Default: one per core, which the processes of a machine share, or a
    single one if a small network is clearly faster that way.
    """
    sync_batchnorm: bool
    """Batch-norm statistics over all devices (GPUs only)."""
    no_sync_batchnorm: bool
    """The other way of `sync_batchnorm`."""
    use_distributed_sampler: bool
    """Each device sees its own share of the data; off, every device sees all of it."""
    no_use_distributed_sampler: bool
    """The other way of `use_distributed_sampler`."""
    signal: str
    """The signal by which a scheduler wants the machine back, beside SIGTERM: USR1, USR2, TERM, HUP or XCPU. The run
    writes a checkpoint at the end of the step, and stops.
    """
    requeue: bool
    """Put the batch job back into the queue where a scheduler's signal has stopped the run; the job's next start
    goes on with it. Slurm's job has the last word (sbatch --no-requeue).
    """
    no_requeue: bool
    """The other way of `requeue`."""
    name: str | None
    """Name of the run; its folder is runs/<name>. Default: data set, model and a number."""
    run_dir: str | os.PathLike[str] | None
    """The run's folder, exactly. Default: runs/<name>."""
    ledger: bool
    """Record loss, prediction, probability and margin of every sample at every visit."""
    no_ledger: bool
    """The other way of `ledger`."""
    logger: Sequence[Literal["csv", "tensorboard", "wandb", "mlflow", "none"]] | str
    """Where metrics go besides the run's own files; may be given several times. One of: csv, tensorboard, wandb,
    mlflow, none.
    """
    log_dir: str | os.PathLike[str] | None
    """Where loggers write. Default: logs/ in the run's folder."""
    log_every_n_steps: int
    """Steps between two logged training losses."""
    use_wandb: bool
    """Short for --logger wandb. Any other flag of Weights & Biases implies it too, except --wandb-mode disabled."""
    no_use_wandb: bool
    """The other way of `use_wandb`."""
    wandb_project: str
    """Weights & Biases: project."""
    wandb_name: str | None
    """Weights & Biases: display name. Default: the run's name."""
    wandb_entity: str | None
    """Weights & Biases: user or team."""
    wandb_tags: Sequence[str] | str
    """Weights & Biases: tags."""
    wandb_notes: str | None
    """Weights & Biases: notes."""
    wandb_mode: Literal["online", "offline", "disabled"]
    """Weights & Biases: online, offline (files only) or disabled. One of: online, offline, disabled."""
    wandb_log_model: bool
    """Weights & Biases: upload checkpoints."""
    no_wandb_log_model: bool
    """The other way of `wandb_log_model`."""
    wandb_watch: bool
    """Weights & Biases: record gradient histograms."""
    no_wandb_watch: bool
    """The other way of `wandb_watch`."""
    profiler: Literal["simple", "advanced", "pytorch"] | None
    """Lightning's profiler; its report goes to the run's logs. One of: simple, advanced, pytorch."""
    progress: bool
    """Show a progress bar on a terminal, and one line per epoch elsewhere."""
    no_progress: bool
    """The other way of `progress`."""
