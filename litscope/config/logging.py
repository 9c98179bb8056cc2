"""The `logging` section of a recipe: what is recorded, and where. No torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal

from litscope.config.section import Section, is_folder, refuse
from litscope.console import CONTROL
from litscope.settings import COUNT, setting


def _run_name(name: str) -> str | None:
    if re.search(f"[{CONTROL}]", name):
        return "it holds control characters, which no name of a run may."
    if re.fullmatch(r"[^/\\]+", name) and name not in (".", ".."):
        return None
    return "it is the name of a folder below runs/. For a path use --run-dir."


@dataclass
class LoggingConfig(Section, group="logging"):
    """What is recorded, and where."""

    name: str | None = setting(None, check=_run_name)
    """Name of the run; its folder is runs/<name>. Default: data set, model and a number."""
    run_dir: str | None = setting(None, check=is_folder, takes=(os.PathLike,))
    """The run's folder, exactly. Default: runs/<name>."""
    ledger: bool = True
    """Record loss, prediction, probability and margin of every sample at every visit."""
    logger: list[Literal["csv", "tensorboard", "wandb", "mlflow", "none"]] = setting(["csv"])
    """Where metrics go besides the run's own files; may be given several times."""
    log_dir: str | None = setting(None, check=is_folder, takes=(os.PathLike,))
    """Where loggers write. Default: logs/ in the run's folder."""
    log_every_n_steps: int = setting(50, check=COUNT)
    """Steps between two logged training losses."""
    use_wandb: bool = False
    """Short for --logger wandb. Any other flag of Weights & Biases implies it too, except --wandb-mode disabled."""
    wandb_project: str = "litscope"
    """Weights & Biases: project."""
    wandb_name: str | None = None
    """Weights & Biases: display name. Default: the run's name."""
    wandb_entity: str | None = None
    """Weights & Biases: user or team."""
    wandb_tags: list[str] = setting([])
    """Weights & Biases: tags."""
    wandb_notes: str | None = None
    """Weights & Biases: notes."""
    wandb_mode: Literal["online", "offline", "disabled"] = "online"
    """Weights & Biases: online, offline (files only) or disabled."""
    wandb_log_model: bool = False
    """Weights & Biases: upload checkpoints."""
    wandb_watch: bool = False
    """Weights & Biases: record gradient histograms."""
    profiler: Literal["simple", "advanced", "pytorch"] | None = None
    """Lightning's profiler; its report goes to the run's logs."""
    progress: bool = True
    """Show a progress bar on a terminal, and one line per epoch elsewhere."""

    def check(self) -> None:
        """Check each value, and what the loggers can do together."""
        super().check()
        if "none" in self.logger and len(set(self.logger)) > 1:
            raise refuse("logger", self.logger, "none cannot be combined with others.")
        if self.wandb_log_model and self.wandb_mode == "offline":
            raise refuse("wandb_log_model", "true", "an offline run uploads nothing. Leave out --wandb-mode offline.")
