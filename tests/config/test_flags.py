"""One configuration, two ways to write it: flags, YAML files and keywords give the same recipe."""

from __future__ import annotations

import re
import types
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from litscope.config.fields import GROUPS, by_key, fields
from litscope.config.flags import parse, parse_line, recipe_from_keywords, reference_rows
from litscope.config.help import help_text
from litscope.config.options import all_flags
from litscope.config.recipe import DataConfig, HardwareConfig, LoggingConfig, ModelConfig, Recipe, TrainingConfig
from litscope.config.yamlfile import dump
from litscope.errors import ConfigError

PROMISED_FLAGS = """
--model --arch --num-classes --pretrained --no-pretrained --weights --dropout-rate --in-channels --compile-model
--dataset --data-dir --data-root --target --val-split --test-split --group-column --batch-size --num-workers
--pin-memory --image-size --augment --augmentation --no-augment --cache --no-cache --cache-dir
--epochs --max-epochs --max-steps --max-time --lr --learning-rate --optimizer --weight-decay --momentum
--scheduler-type --warmup-epochs --label-smoothing --mixup --cutmix --class-weights --loss --ema-decay
--gradient-clip-val --accumulate-grad-batches --early-stopping --patience --min-delta --monitor --mode
--checkpoint-dir --save-top-k --save-last --resume-from-checkpoint --resume --seed --deterministic
--accelerator --devices --num-nodes --strategy --precision --sync-batchnorm --use-distributed-sampler
--logger --use-wandb --wandb-project --wandb-name --wandb-entity --wandb-tags --wandb-notes --wandb-mode
--wandb-log-model --wandb-watch --log-dir --log-every-n-steps --profiler --fast-dev-run --limit-train-batches
--limit-val-batches --limit-test-batches --overfit-batches --progress --no-progress --name --run-dir
"""


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_all_promised_flags_exist() -> None:
    known = {flag for field in fields() for flag in all_flags(field)}
    assert set(PROMISED_FLAGS.split()) <= known
    help_words = set(re.findall(r"--[a-z0-9-]+", help_text("fit", "", width=120)))
    missing = {f for f in PROMISED_FLAGS.split() if f not in help_words and f.replace("--no-", "--") not in help_words}
    assert not missing


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("--model resnet18", "model.arch", "resnet18"),
        ("--arch=resnet18", "model.arch", "resnet18"),
        ("--no-pretrained", "model.pretrained", False),
        ("--pretrained", "model.pretrained", True),
        ("--compile-model", "model.compile", True),
        ("--no-compile-model", "model.compile", False),
        ("digits", "data.dataset", "digits"),
        ("--dataset digits", "data.dataset", "digits"),
        ("digits --dataset digits", "data.dataset", "digits"),
        ("--data-root d", "data.data_dir", "d"),
        ("--no-augment", "data.augment", "none"),
        ("--augmentation strong", "data.augment", "strong"),
        ("--no-cache", "data.cache", False),
        ("--max-epochs 3", "training.epochs", 3),
        ("--learning-rate 1e-3", "training.lr", 1e-3),
        ("--lr 1", "training.lr", 1.0),
        ("--no-save-last", "training.save_last", False),
        ("--limit-train-batches 10", "training.limit_train_batches", 10),
        ("--limit-train-batches 1.0", "training.limit_train_batches", 1.0),
        ("--limit-train-batches 1", "training.limit_train_batches", 1),
        ("--devices 2", "hardware.devices", "2"),
        ("--devices 0,1", "hardware.devices", "0,1"),
        ("--devices -1", "hardware.devices", "-1"),
        ("--precision 16", "hardware.precision", "16"),
        ("--logger csv --logger wandb", "logging.logger", ["csv", "wandb"]),
        ("--logger csv,tensorboard", "logging.logger", ["csv", "tensorboard"]),
        ("--wandb-tags a b", "logging.wandb_tags", ["a", "b"]),
        ("--wandb-tags a,b --wandb-tags c", "logging.wandb_tags", ["a", "b", "c"]),
        ("--no-progress", "logging.progress", False),
        ("--name 007", "logging.name", "007"),
        ("--name 1e3", "logging.name", "1e3"),
        ("--name null", "logging.name", "null"),
        ("--cache --no-cache", "data.cache", False),
    ],
)
def test_flag(line: str, key: str, value: Any) -> None:
    group, name = key.split(".")
    found = getattr(getattr(parse(line.split()), group), name)
    assert found == value
    assert type(found) is type(value)


def test_a_logger_does_not_swallow_the_source() -> None:
    recipe = parse(["--logger", "csv", "digits"])
    assert recipe.data.dataset == "digits"
    assert recipe.logging.logger == ["csv"]


def test_every_flag_takes_its_default() -> None:
    """Each flag, given its own default, leaves the recipe as it is."""
    for field in fields():
        for flag in field.flags:
            if field.default is None or field.key == "logging.wandb_tags":
                continue
            value = ",".join(field.default) if field.is_list else str(field.default)
            words = [flag, value] if not field.is_bool else [flag if field.default else "--no-" + flag[2:]]
            expected = Recipe()
            if field.key == "data.data_dir":  # alone, the folder is the data
                expected.data.dataset = field.default
            if flag in ("--wandb-project", "--wandb-mode"):
                expected.logging.use_wandb = True
            assert parse(words) == expected, words


def test_patience_alone_turns_early_stopping_on() -> None:
    assert parse(["--patience", "3"]).training.early_stopping
    assert not parse(["--patience", "3", "--no-early-stopping"]).training.early_stopping
    assert recipe_from_keywords(patience=3).training.early_stopping
    assert not parse([]).training.early_stopping


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--learning 1", "--learning is not a flag. Did you mean '--learning-rate'"),
        ("--lr abc", "--lr: 'abc' is not a number"),
        ("--epochs 1.5", "--epochs: '1.5' is not a whole number"),
        ("--precision 17", "--precision: '17' is not one of auto, 16"),
        ("--scheduler-type cosin", "Did you mean 'cosine'"),
        ("--logger csv,wandd", "'wandd' is not any of csv"),
        ("--lr", "expected one argument"),
        ("a b", "unrecognized arguments: b"),
        ("a --dataset b", "two data sets"),
        ("--lr nan", "--lr: 'nan'"),
        ("--preset three_gpus", "There are: multi_gpu_ddp, single_gpu"),
        ("--config no.yaml", "no.yaml cannot be read"),
        ("--num-memebers 5", "Did you mean '--num-members'"),
    ],
)
def test_mistakes_in_flags(line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(line.split())
    assert message in str(caught.value)


@pytest.mark.flag("config", "preset")
def test_layers_from_weak_to_strong(tmp_path: Path) -> None:
    first = written(
        tmp_path / "first.yaml",
        """
model: {arch: resnet18}
training: {epochs: 1, lr: 0.1}
hardware: {num_nodes: 2}
lightning: {max_epochs: 7, devices: 1, accelerator: cpu, precision: 64}
lightning_presets:
  mine: {devices: 4, strategy: ddp, num_nodes: 3}
""",
    )
    second = written(tmp_path / "second.yaml", "training:\n  learning-rate: 0.2\n")
    recipe = parse(["--config", first, "--config", second, "--preset", "mine", "--epochs", "5"])
    assert recipe.model.arch == "resnet18"  # a section
    assert recipe.training.lr == 0.2  # the later file
    assert recipe.training.epochs == 5  # the flag over the section over the lightning block
    assert recipe.hardware.devices == "4"  # the preset over the lightning block
    assert recipe.hardware.num_nodes == 2  # the section over the preset
    assert recipe.hardware.accelerator == "cpu"  # the lightning block over the default
    assert recipe.hardware.precision == "64"
    assert recipe.training.weight_decay is None  # the default
    assert parse(["--config", first]).hardware.devices == "1"
    assert parse(["--config", first]).training.epochs == 1


@pytest.mark.flag("preset")
def test_built_in_presets_and_a_file_that_redefines_one(tmp_path: Path) -> None:
    ddp = parse(["--preset", "multi_gpu_ddp"]).hardware
    assert (ddp.accelerator, ddp.strategy, ddp.sync_batchnorm) == ("gpu", "ddp", True)
    assert parse(["--preset", "single_gpu"]).hardware.devices == "1"
    file = written(tmp_path / "a.yaml", "lightning_presets:\n  single_gpu:\n    accelerator: cpu\n")
    assert parse(["--config", file, "--preset", "single_gpu"]).hardware == HardwareConfig(accelerator="cpu")


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("model: {model_type: single}", "model.model_type", "single"),
        ("model: {hidden: [64, 32]}", "model.hidden", [64, 32]),
        ("training: {learning_rate: 1e-3}", "training.lr", 1e-3),
        ("training: {max-epochs: 4}", "training.epochs", 4),
        ("training: {limit_train_batches: 10}", "training.limit_train_batches", 10),
        ("training: {limit_train_batches: 1.0}", "training.limit_train_batches", 1.0),
        ("training: {max_time: 12:30:00}", "training.max_time", "12:30:00"),
        ("training: {class_weights: none}", "training.class_weights", "none"),
        ("hardware: {devices: 2}", "hardware.devices", "2"),
        ("hardware: {devices: [0, 1]}", "hardware.devices", "0,1"),
        ("hardware: {devices: [1]}", "hardware.devices", "1,"),
        ("hardware: {precision: 32}", "hardware.precision", "32"),
        ("hardware: {sync-batchnorm: true}", "hardware.sync_batchnorm", True),
        ("hardware: {sync_batchnorm: yes}", "hardware.sync_batchnorm", True),
        ("data: {augment: false}", "data.augment", "none"),
        ("data: {target: 007}", "data.target", "007"),
        ("data: {target: no}", "data.target", "no"),
        ("data: {batch_size: null}", "data.batch_size", None),
        ("data:", "data.batch_size", None),
        ("logging: {logger: csv}", "logging.logger", ["csv"]),
        ("logging: {wandb_tags: [1, 'b,c']}", "logging.wandb_tags", ["1", "b,c"]),
        ("lightning: {accumulate_grad_batches: 4}", "training.accumulate_grad_batches", 4),
        ("lightning: {devices: -1}", "hardware.devices", "-1"),
        ("", "training.seed", 42),
    ],
)
def test_yaml_value(tmp_path: Path, text: str, key: str, value: Any) -> None:
    group, name = key.split(".")
    found = getattr(getattr(parse(["--config", written(tmp_path / "a.yaml", text)]), group), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("training:\n  epoch: 3\n", 2, "training.epoch is not a key. Did you mean 'epochs'"),
        ("trainig:\n  epochs: 3\n", 1, "'trainig' is not a section. Did you mean 'training'"),
        ("\nlr: 0.1\n", 2, "write it below training: (training.lr)"),
        ("training:\n  batch_size: 3\ndata:\n  batch_size: 4\n", 4, "line 4: data.batch_size is set already ("),
        ("model:\n  hidden: [64, 3.5]\n", 2, "is not a list of whole numbers"),
        ("model:\n  model_type: vit_b_16\n", 2, "An architecture is named by --arch: --arch vit_b_16."),
        ("training:\n  epochs: many\n", 2, "training.epochs: 'many' is not a whole number"),
        ("training:\n  epochs: true\n", 2, "training.epochs: True is not a whole number"),
        ("training:\n  epochs: 1e1\n", 2, "training.epochs: '1e1' is not a whole number"),
        ("training:\n  seed: null\n", 2, "training.seed: None is not a whole number"),
        ("training:\n  seed: 3\n  seed: 4\n", 3, "'seed' stands here for the second time (first in line 2)"),
        ("training:\n  lr: 3\n  learning_rate: 4\n", 3, "another name of training.lr"),
        ("training:\n  lr: {a: 1}\n", 2, "takes a number, not a mapping"),
        ("training:\n  lr: [1, 2]\n", 2, "is not a number"),
        ("training: 3\n", 1, "training is a section"),
        ("training:\n  lr: [1\nmodel: 3\n", 3, "not valid YAML"),
        ("training:\n\tlr: 1\n", 2, "not valid YAML"),
        ("- a\n", 1, "pairs"),
        ("lightning:\n  max_epoch: 3\n", 2, "Did you mean 'max_epochs'"),
        ("lightning:\n  arch: mlp\n", 2, "arch stands in model:"),
        ("lightning_presets:\n  a:\n    device: 3\n", 3, "Did you mean 'devices'"),
        ("logging:\n  wandb_tags: [[a]]\n", 2, "must be words or numbers"),
        ("data:\n  val_split: 1.5\n", 2, "--val-split 1.5"),
        ("data:\n  name: !!python/object:os.system x\n", 2, "not valid YAML"),
    ],
)
def test_mistakes_in_yaml_name_file_and_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    file = written(tmp_path / "a.yaml", text)
    with pytest.raises(ConfigError) as caught:
        parse(["--config", file])
    assert message in str(caught.value)
    assert f"{file}, line {line}" in str(caught.value)


def test_keywords_are_the_flags() -> None:
    by_keywords = recipe_from_keywords(
        dataset="digits", arch="resnet18", learning_rate=3e-4, devices=[0, 1], no_augment=True, logger="csv,wandb",
        weights=None, precision=16, limit_val_batches=1.0,
    )  # fmt: skip
    line = "digits --arch resnet18 --lr 3e-4 --devices 0,1 --no-augment --logger csv --logger wandb --precision 16"
    assert by_keywords == parse([*line.split(), "--limit-val-batches", "1.0"])
    assert recipe_from_keywords(no_cache=True).data.cache is False


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"learning_rat": 1}, "learning_rat= is not a keyword. Did you mean 'learning_rate'"),
        ({"lr": 1, "learning_rate": 1}, "another name of lr="),
        ({"lr": "fast"}, "lr=: 'fast' is not a number"),
        ({"epochs": 2.5}, "epochs=: 2.5 is not a whole number"),
        ({"cache": "perhaps"}, "cache=: 'perhaps' is not true or false"),
        ({"no_lr": True}, "no_lr= is not a keyword"),
        ({"seed": None}, "seed=: None is not"),
    ],
)
def test_mistakes_in_keywords(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe_from_keywords(**keywords)
    assert message in str(caught.value)


FOLDERS = ["data.cache_dir", "training.checkpoint_dir", "logging.log_dir", "logging.run_dir"]


def values_of(field: Any) -> st.SearchStrategy[Any]:
    """Valid values of a field."""
    special: dict[str, st.SearchStrategy[Any]] = {
        "model.weights": st.none(),
        "training.max_time": st.sampled_from(["90s", "01:02:03", None]),
        "training.checkpoint_every": st.just("2m"),  # not another one without save_last
        "training.class_weights": st.sampled_from(["none", "balanced"]),
        "training.monitor": st.sampled_from(["val/auroc", "val/accuracy", None]),
        "training.mode": st.sampled_from(["max", None]),
        "training.warmup_epochs": st.floats(0, 1),
        "training.steps_per_call": st.just("auto") | st.integers(1, 64),
        "training.resume": st.none(),
        "training.calibrate": st.just("none"),  # not without the best checkpoint
        **dict.fromkeys(("training.threshold", "training.coverage"), st.none()),  # the same
        "model.model_type": st.sampled_from(["single", "ensemble", None]),
        "model.hidden": st.just([]),  # for an mlp
        "model.num_members": st.just(1),  # not with --weights, or another optimizer than torch's
        "model.member_lr": st.just([]),  # as many as members
        "model.member_weight_decay": st.just([]),
        "model.member_image_size": st.just([]),
        "model.member_seed": st.just([]),
        "model.archs": st.just([]),  # not with another --arch
        "data.cache_size": st.sampled_from(["5000000", "256M", "1.5G", None]),
        "data.storage_timeout": st.floats(0, 1e6),
        "data.on_bad_data": st.sampled_from(["skip", "stop"]),
        "data.shuffle_window": st.sampled_from(["5000000", "256M", "1.5G", None]),
        **dict.fromkeys(("data.train_urls", "data.val_urls", "data.test_urls"), st.none()),  # not with a dataset
        "data.use_webdataset": st.just(False),  # not without one
        "data.crop_padding": st.none(),  # not with --augment none
        "data.num_folds": st.none(),  # as many as members, or with a fold of them
        "data.fold": st.none(),
        "data.fold_tests": st.just(False),  # with a fold
        "hardware.accelerator": st.sampled_from(["auto", "cpu", "gpu"]),
        "hardware.devices": st.sampled_from(["auto", "2", "0,1", "0,", "-1"]),
        "hardware.strategy": st.sampled_from(["auto", "ddp"]),
        "hardware.rank_timeout": st.floats(5, 1000),
        "hardware.fsdp_wrap": st.sampled_from(["auto", "block", "size:1e6"]),
        "hardware.cpu_offload": st.just(False),  # not without fsdp
        "training.checkpoint_format": st.just("full"),  # the same
        "training.scale_lr_devices": st.none(),  # not without scale_lr
        "hardware.signal": st.sampled_from(["USR1", "USR2"]),
        "data.sampler": st.just("uniform"),  # balanced: not with class weights
        "logging.wandb_log_model": st.just(False),  # not with wandb_mode offline
        "model.task": st.just("multiclass"),  # binary: not with other num_classes
        "data.soft_label_max": st.none(),  # not without a column of grades
        "data.fits_limits": st.just([]),
        "training.focal_gamma": st.none(),  # not without its loss
        "training.logit_adjustment": st.just(0.0),  # not with class weights
        "training.robust": st.just("none"),  # not with mixup
        **dict.fromkeys(
            [f"training.{name}" for name in ("gce_q", "elr_lambda", "elr_beta", "small_loss_share")], st.none()
        ),
        "training.prune": st.just("none"),  # not with mixup, cutmix or overfit_batches
        "training.prune_ratio": st.none(),
        "training.canaries": st.just(0.0),  # not without the ledger
        **dict.fromkeys(FOLDERS, st.sampled_from(["a b/c", "~", None])),
        "logging.name": st.sampled_from(["a b", "1e3", "null", "true", "#x", None]),
        "logging.logger": st.sampled_from([["csv"], ["none"], ["csv", "wandb"], []]),
    }
    if field.key in special:
        return special[field.key]
    texts = st.text(st.characters(codec="utf-8"), max_size=30)
    of_part = {
        bool: st.booleans(),
        int: st.integers(2, 2**31),
        float: st.floats(0, 0.4, exclude_min=True),
        str: texts,
    }
    parts = [
        of_part[part] if part in of_part else st.sampled_from(field.choices)
        for part in field.parts
        if not field.is_list
    ]
    one = st.lists(texts, max_size=3) if field.is_list else st.one_of(parts)
    return st.none() | one if field.may_be_none else one


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    parts: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    for field in fields():
        parts[field.group][field.name] = draw(values_of(field))
    return Recipe(
        ModelConfig(**parts["model"]),
        DataConfig(**parts["data"]),
        TrainingConfig(**parts["training"]),
        HardwareConfig(**parts["hardware"]),
        LoggingConfig(**parts["logging"]),
    )


STRANGE = (
    Recipe(logging=LoggingConfig(wandb_notes="a\x85b\u2028c\n: #'\" é", wandb_tags=["", "é", "\x85"])),
    Recipe(logging=LoggingConfig(name="08", wandb_project="010", wandb_tags=["09", "1_0"])),
)


@pytest.mark.parametrize("recipe", [Recipe(), *STRANGE])
@pytest.mark.flag("print_config")
def test_print_config_loads_back(recipe: Recipe, tmp_path: Path) -> None:
    recipe.check()
    file = tmp_path / "recipe.yaml"
    file.write_bytes(dump(recipe).encode())
    back = parse(["--config", str(file)])
    assert back == recipe
    assert repr(back) == repr(recipe)  # 1 is not 1.0


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(recipe=recipes())
def test_print_config_of_any_recipe_loads_back(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> None:
    test_print_config_loads_back(recipe, tmp_path_factory.mktemp("any"))


def test_leading_zeros_in_a_file_are_decimal(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("training:\n  seed: 010\nlogging:\n  name: 08\n")
    recipe = parse(["--config", str(tmp_path / "run.yaml")])
    assert (recipe.training.seed, recipe.logging.name) == (10, "08")


def test_print_config_comments_every_field() -> None:
    text = dump(Recipe())
    for field in fields():
        before = text[: text.index(f"\n  {field.name}: ")].splitlines()[-1]
        assert before.startswith("  # "), field.key
    assert "# Which network is trained" in text


def test_help_fits_the_terminal() -> None:
    for width in (60, 80, 120):
        text = help_text("fit", "Train.", width=width)
        assert max(map(len, text.splitlines())) <= max(width, 60)
        for field in fields():
            assert len(re.findall(rf"^  {field.flag}\b(?!-)", text, re.M)) == 1


def test_reference_rows_cover_every_field() -> None:
    rows = reference_rows()
    assert [row[1] for row in rows] == list(by_key())
    lr = next(row for row in rows if row[1] == "training.lr")
    assert lr[:3] == ("--lr, --learning-rate", "training.lr", "a number")
    assert all(flag.startswith("--") for row in rows for flag in row[0].split(", "))


def test_options_around_the_recipe() -> None:
    line = parse_line(["digits", "--json", "--print-config"])
    assert line.options["json"]
    assert line.options["print_config"]
    assert line.recipe == parse(["digits"])


def test_hints_are_unions_of_known_kinds() -> None:
    """`typed` and the help know these types and no others."""
    for field in fields():
        for part in field.parts:
            origin = typing.get_origin(part)
            assert part in (bool, int, float, str) or origin in (typing.Literal, list), field.key
            assert origin is not types.UnionType
