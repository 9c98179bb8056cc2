"""Every goal for speed, in one table. scripts/performance.py puts what was measured beside each.

A goal that is not reached needs a note, `notes/<key>.md`: the profile, what was tried, what stands in the way.
"""

from __future__ import annotations

from dataclasses import dataclass

import cifar_resnet18
import decode
import ensemble
import gpu
import growth
import many_epochs
import members
import prune
import recording
import scale
import shards
import small_mlp
import startup
import studio
import tasks
import to_accuracy
import watch


@dataclass(frozen=True)
class Goal:
    """A figure that is wanted.

    Attributes:
        key: names its note.
        text: what is wanted, in words.
        bench, arm, figure: where it is measured.
        against: the arm that `arm` is divided by, round by round; None takes the figure itself.
        at_least, at_most: the bound; with neither, the figure is only reported.
    """

    key: str
    text: str
    bench: str
    arm: str
    figure: str = "samples_per_s"
    against: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    def is_reached_by(self, value: float) -> bool | None:
        """Whether a value lies within the bound; None without a bound."""
        if self.at_least is not None:
            return value >= self.at_least
        return value <= self.at_most if self.at_most is not None else None


OURS, SEVERAL, RESIDENT = tasks.OURS, small_mlp.SEVERAL, small_mlp.RESIDENT

SMALL = (
    Goal("small-eager", "MLP, one step a call, over plain Lightning with DataLoader and two logs", "small_mlp", OURS,
         against=tasks.LIGHTNING, at_least=2.2),
    Goal("small-steps-lightning", "MLP, several steps a call, over plain Lightning", "small_mlp", SEVERAL,
         against=tasks.LIGHTNING, at_least=10),
    Goal("small-steps-loop", "MLP, several steps a call, over a raw PyTorch loop without DataLoader", "small_mlp",
         SEVERAL, against=RESIDENT, at_least=2.5),
    Goal("small-sklearn", "MLP, several steps a call, over scikit-learn's MLPClassifier at equal accuracy", "small_mlp",
         SEVERAL, against=small_mlp.SKLEARN, at_least=1),
    Goal("small-members", "Eight MLPs at once, per net, over a raw PyTorch loop", members.NAME, members.OURS,
         against=RESIDENT, at_least=5),
    Goal("small-settings", "Eight settings of one MLP at once, per net, over a raw PyTorch loop", members.NAME,
         members.SETTINGS, against=RESIDENT, at_least=5),
)  # fmt: skip

_CIFAR = "cifar_resnet18"

IMAGES = (
    Goal("resnet18-ceiling", "ResNet-18 at 32 pixels, fp32: share of the ceiling", _CIFAR, OURS,
         against=tasks.CEILING, at_least=0.97),
    Goal("resnet18-ceiling-bf16", "ResNet-18 at 32 pixels, bf16: share of the ceiling", f"{_CIFAR}_bf16", OURS,
         against=tasks.CEILING, at_least=0.97),
    Goal("resnet18-lightning", "ResNet-18 at 32 pixels, litscope choosing its precision, over plain Lightning in fp32",
         _CIFAR, cifar_resnet18.CHOSEN, against=tasks.LIGHTNING, at_least=2.3),
    *(
        Goal(f"resnet18-{key}{end}", f"ResNet-18 at 32 pixels, {precision}, over {name}",
             f"{_CIFAR}{end.replace('-', '_')}", OURS, against=name, at_least=1)
        for end, precision in (("", "fp32"), ("-bf16", "bf16"))
        for key, name in (("timm", cifar_resnet18.TIMM), ("fastai", cifar_resnet18.FASTAI), ("loop", tasks.LOOP))
    ),
    Goal("mnist-lightning", "MNIST convnet over plain Lightning (no goal was set)", "mnist_convnet", OURS,
         against=tasks.LIGHTNING),
    Goal("mnist-ceiling", "MNIST convnet: share of the ceiling (no goal was set)", "mnist_convnet", OURS,
         against=tasks.CEILING),
    Goal("decode", "JPEG files to batches of 224 pixels, per core, over DataLoader with PIL", "decode", OURS,
         "samples_per_core_s", decode.PIL, at_least=2.5),
    Goal("time-mnist-990", "MNIST to 99.0 %, whole command, over the best plain Lightning script", to_accuracy.NAME,
         to_accuracy.arm(OURS, 0.99), "runs_per_hour", to_accuracy.arm(tasks.LIGHTNING, 0.99), at_least=1),
    Goal("time-mnist-994", "MNIST to 99.4 %, whole command, over the best plain Lightning script", to_accuracy.NAME,
         to_accuracy.arm(OURS, 0.994), "runs_per_hour", to_accuracy.arm(tasks.LIGHTNING, 0.994), at_least=1),
    Goal("time-cifar-90", "CIFAR-10 (JPEG) to 90 %, CPU time", to_accuracy.CIFAR10,
         to_accuracy.arm(OURS, 0.9), "cpu_s", at_most=3600),
    Goal("time-cifar-90-lightning", "CIFAR-10 (JPEG) to 90 %, CPU time, plain Lightning script over litscope",
         to_accuracy.CIFAR10, to_accuracy.arm(OURS, 0.9), "runs_per_cpu_hour", to_accuracy.arm(tasks.LIGHTNING, 0.9),
         at_least=1),
)  # fmt: skip

ON_A_GPU = (
    *(
        Goal(f"gpu-{arch}-{data}", f"{name}, {data} data, share of a bare loop with capture on",
             f"gpu_{arch}_{data}", OURS, against=gpu.BARE[data], at_least=0.98)
        for arch, name in (("resnet18", "ResNet-18"), ("resnet50", "ResNet-50"))
        for data in ("synthetic", "real")
    ),
    Goal("gpu-syncs", "Waits of the host for the GPU within an epoch's steps", "gpu_syncs", OURS, "host_syncs",
         at_most=0),
    Goal("gpu-small", "MLP, several steps a call (CUDA graphs), over plain Lightning", "gpu_small", SEVERAL,
         against=tasks.LIGHTNING, at_least=8),
    Goal("gpu-cifar94", "CIFAR-10 to 94 %, whitened small net, over a bare loop of the same net", "gpu_cifar94", OURS,
         "runs_per_hour", "bare loop"),
)  # fmt: skip

FROM_SHARDS = (
    *(
        Goal(f"shards-{pixels}-{name.split(',')[0].split(' ')[-1]}", f"{pixels} pixels, local shards, {text}",
             f"shards_{pixels}", OURS, against=name, at_least=bound)
        for pixels in shards.SIDES
        for name, text, bound in (
            (shards.DECODER, "share of what the decoder alone does", 0.9),
            *((name, f"over {name}", 1) for name in (shards.WEBDATASET, shards.LITDATA, shards.FOLDER)),
        )
    ),
    *(
        Goal(f"shards-s3-{pixels}-{name}", f"{pixels} pixels, S3 20 ms away, over {name}", f"shards_s3_{pixels}", OURS,
             against=name, at_least=1)
        for pixels in shards.SIDES
        for name in (shards.WEBDATASET, shards.LITDATA)
    ),
)  # fmt: skip

FEWER = (
    Goal("prune", "InfoBatch beside a shorter schedule of the same cost, points of accuracy", "prune",
         prune.AGAINST_SHORTER, "accuracy_gain"),
)  # fmt: skip

OTHERS = (
    Goal("watch-resnet18", "A LightningModule with Scope over unwatched, ResNet-18", "watch_resnet18", watch.SCOPE,
         against=watch.UNWATCHED, at_least=0.97),
    Goal("watch-mnist", "A LightningModule with Scope over unwatched, small MNIST network", "watch_mnist", watch.SCOPE,
         against=watch.UNWATCHED, at_least=0.9),
    Goal("watch-wrapped", "Wrapped parts over unwatched, small MNIST network (no goal was set)", "watch_mnist",
         watch.WRAPPED, against=watch.UNWATCHED),
    Goal("watch-weightslab", "Wrapped parts over WeightsLab as shipped (no goal was set)", "watch_weightslab",
         watch.WRAPPED, against=watch.WEIGHTSLAB),
    Goal("watch-weightslab-tuned", "Wrapped parts over WeightsLab tuned (no goal was set)", "watch_weightslab",
         watch.WRAPPED, against=watch.TUNED),
)  # fmt: skip

WATCHING = (
    Goal("watching-resnet18", "Recording on over off, ResNet-18", "watching_cifar10", OURS, against=recording.OFF,
         at_least=0.99),
    Goal("watching-mnist", "Recording on over off, small MNIST network", "watching_mnist", OURS, against=recording.OFF,
         at_least=0.95),
    Goal("first-step", "Start to first step, CIFAR-10, warm cache, seconds", "first_step", OURS, "first_step_s",
         at_most=5),
    Goal("help", "`litscope --help`, seconds", "help", startup.HELP, "wall_s", at_most=0.3),
    Goal("growth-epochs", f"Time of an epoch, {many_epochs.FAR} over {many_epochs.NEAR}", "many_epochs",
         many_epochs.FAR, "turn_s", against=many_epochs.NEAR, at_most=1.05),
    Goal("growth-memory", f"Memory of a run, {many_epochs.FAR} over {many_epochs.NEAR}", "many_epochs",
         many_epochs.FAR, "resident_mib", against=many_epochs.NEAR, at_most=1.05),
    Goal("growth-samples", "Time per sample and epoch, the largest N over the smallest", "growth", growth.ALL,
         "time_growth", at_most=1.1),
)  # fmt: skip

RANKS = (
    Goal("ranks-recording", "Two ranks of a small MNIST network: recording on over off (no goal was set)", "scale",
         scale.NAMES["on"], against=scale.NAMES["off"]),
    Goal("ranks-actions", "The same, an action every 20 steps over none (no goal was set)", "scale",
         scale.NAMES["acting"], against=scale.NAMES["on"]),
    Goal("ranks-bytes", "The same, bytes that a rank hands over in a step, gradients included (no goal was set)",
         "scale", f"{scale.NAMES['on']}: all", "bytes"),
    Goal("ranks-scaling", "ResNet-18 at 32 pixels, a step shared by two ranks over one rank (no goal was set)",
         "scaling", scale.TOGETHER, against=scale.ALONE),
)  # fmt: skip

_TOGETHER, _APART = (way(ensemble.DIGITS, 4) for way in (ensemble.together, ensemble.apart))

ENSEMBLES = (
    Goal("ensemble-overhead", "Four convnets on digits in one run over four runs, where overhead dominates",
         ensemble.NAME, _TOGETHER, "cpu_s", _APART, at_most=0.6),
    Goal("ensemble-networks", "Four convnets on MNIST in one run over four runs, where the networks dominate",
         ensemble.NAME, ensemble.together(ensemble.MNIST, 4), "cpu_s", ensemble.apart(ensemble.MNIST, 4), at_most=1),
    Goal("ensemble-memory", "Four convnets on digits in one run over the largest of four runs (no goal was set)",
         ensemble.NAME, _TOGETHER, "peak_mib", _APART),
)  # fmt: skip

PAGE = (
    Goal("studio-queries", "1.28 million samples, 20 epochs: what 95 % of questions take at most, ms", "studio",
         studio.NORMAL, "query_p95_ms", at_most=300),
    Goal("studio-memory", "The same, the most memory that the server held, MiB", "studio", studio.NORMAL, "server_mib",
         at_most=500),
    Goal("studio-first-paint", "The same, from an address to the first picture of the grid, server just started, "
         "seconds (no goal was set)", "studio", studio.NORMAL, "first_paint_s"),
    Goal("studio-next-paint", "The same, of the next tab, seconds (no goal was set)", "studio", studio.NORMAL,
         "next_paint_s"),
    Goal("studio-jump", "The same, from a jump in the grid to its samples, ms (no goal was set)", "studio",
         studio.NORMAL, "jump_ms"),
    Goal("studio-frames", "The same, what 95 % of frames take at most while the grid scrolls, ms (no goal was set)",
         "studio", studio.NORMAL, "frame_p95_ms"),
    Goal("studio-tabs", "A training with ten tabs open on it over the same alone, CPU time of the training",
         "studio_tabs", studio.TEN_TABS, "training_cpu_s", studio.ALONE, at_most=1.01),
)  # fmt: skip

SECTIONS = {
    "Small models, where Python is the cost": SMALL,
    "Images": IMAGES,
    "Images in shards": FROM_SHARDS,
    "On a GPU": ON_A_GPU,
    "Fewer samples": FEWER,
    "Ensembles": ENSEMBLES,
    "The studio": PAGE,
    "Cost of watching": WATCHING,
    "Watching a person's own LightningModule": OTHERS,
    "Several devices": RANKS,
}
