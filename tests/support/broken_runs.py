"""Runs broken as disks, people and other programs break them."""

from __future__ import annotations

from litscope.rundir import RunDir


def broken(kind: str, run: RunDir) -> None:
    """Break a run as disks, people and other programs do."""
    match kind:
        case "no recipe":
            run.recipe.unlink()
        case "a recipe that is none":
            run.recipe.write_bytes(b"\xff\xfe{[")
        case "a recipe of another program":
            run.recipe.write_text("optimizer: {lr: 1}\n")
        case "no manifest":
            run.manifest.unlink()
        case "half a manifest":
            run.manifest.write_bytes(run.manifest.read_bytes()[:300])
        case "half a summary":
            run.summary.write_text('{"status": "fini')
        case "a summary that is a list":
            run.summary.write_text("[1]")
        case "half a part":
            part = next(run.signals.glob("*.parquet"))
            part.write_bytes(part.read_bytes()[:200])
        case "metrics of another program":
            run.epoch_metrics.write_text('{"epoch": 1}\n{"x": 2}\nnonsense\n{"epoch": "a", "step": "b"}\n')
        case "a journal of another program":
            run.actions.write_text('{"id": "a", "what": "explode", "sample_id": "x"}\n{"answers": 1}\n{"id":')
        case "attempts of another program":
            run.attempts.write_text('{"attempt": "one"}\n')
        case "nothing but signals":
            for path in (run.recipe, run.manifest, run.attempts):
                path.unlink()
        case "a folder in place of a file":
            run.epoch_metrics.unlink()
            run.epoch_metrics.mkdir()


BROKEN: tuple[str, ...] = (
    "no recipe",
    "a recipe that is none",
    "a recipe of another program",
    "no manifest",
    "half a manifest",
)
BROKEN += ("half a summary", "a summary that is a list", "half a part", "metrics of another program")
BROKEN += ("a journal of another program", "attempts of another program", "nothing but signals")
BROKEN += ("a folder in place of a file",)
