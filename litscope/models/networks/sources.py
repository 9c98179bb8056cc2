"""Where weights to start from are: what a name of them means, whose they are, and how images were brought to them.

    model.pt, model.safetensors                          a file of tensors by name, of torchvision, timm or your own
    best.ckpt                                            a checkpoint of litscope, which says all about itself; so does
                                                         the .safetensors file of an export
    resnet18.a1_in1k, timm/resnet18, hf-hub:timm/...     weights of timm, by architecture and tag
    hf-hub:owner/name                                    a model of timm's format on the Hugging Face hub
    torchvision:ResNet50_Weights.IMAGENET1K_V2           weights of torchvision, also without what is before the colon

Nothing is downloaded here but the description of a model that timm does not know, and nothing of a network is built.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from litscope.errors import ModelError, did_you_mean
from litscope.models.networks.architectures import all_names, look_up, resolve, torchvision_names
from litscope.models.networks.hub import hub_place, torchvision_place, unreachable, weights_place
from litscope.models.networks.preprocessing import Preprocessing, of_checkpoint, of_timm, of_torchvision
from litscope.models.networks.weights import description_in, load_file

SAMPLES = "litscope_samples"
"""Where a checkpoint says how samples are read, beside its weights and settings."""

OTHER_WEIGHTS = "Give a file of weights, or fill the cache of the Hugging Face hub (or of torch.hub) beforehand."
"""What to do where weights cannot be downloaded."""

_SHAPE = ("hidden", "stem", "num_features")
"""Settings of a checkpoint, beside its architecture, that decide the shape of its weights."""

_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors", ".bin")


@dataclass(frozen=True)
class WeightsSource:
    """Weights that somebody named.

    Attributes:
        name: as it was given.
        kind: who reads them.
        arch: the architecture that they are of, as `--arch` takes it; None where they do not say.
        place: the file that holds them; a URL where they are still to be downloaded.
        tag: their name at timm or torchvision; of the hub the repository.
        preprocessing: how images were brought to them; None where nobody says.
        settings: of a checkpoint: what else decides the shape of its network.
        classes: the names of what they tell apart, in the order of their head; None where they do not say.
        config: of a model on the hub: timm's description.
    """

    name: str
    kind: Literal["file", "checkpoint", "timm", "torchvision", "hub"]
    arch: str | None
    place: Path | str
    tag: str = ""
    preprocessing: Preprocessing | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str | None:
        """Where they would be downloaded from; None if they are here."""
        return self.place if isinstance(self.place, str) else None

    def problem(self) -> str | None:
        """Why they cannot be had, which asks their host where they are to be downloaded; None if they can."""
        return None if self.url is None else unreachable(self.url)


def find_weights(name: str | os.PathLike[str], arch: str | None = None, *, ask: bool = True) -> WeightsSource:
    """What a name of weights means.

    Args:
        name: see the module.
        arch: the network that starts from them, where that is known: a file of tensors does not say.
        ask: whether the hub may be asked for the description of a model that timm does not know.

    Raises:
        ModelError: if there are no such weights; for a file that cannot be read; for weights of another architecture.
    """
    given = os.fspath(name)
    file = Path(given).expanduser()
    if file.is_file():
        found = _of_file(given, file, arch)
    elif file.is_dir():
        raise ModelError(
            f"{given} is a folder. Give the file of the weights; of a run that is {file / 'checkpoints' / 'best.ckpt'}."
        )
    elif file.suffix.lower() in _SUFFIXES:
        raise ModelError(f"There is no weights file {given}.")
    else:
        found = _by_name(given, ask)
    if arch is not None and found.arch is not None and not _fits(arch, found.arch):
        raise ModelError(f"The weights {given} are of {found.arch}, not of {arch}. Leave --arch {arch} out.")
    return found


def weights_of(arch: str) -> WeightsSource | None:
    """The pretrained weights that an architecture's library has for it; None where it has none.

    Raises:
        ModelError: for an unknown name.
    """
    origin, name = resolve(arch)
    place = weights_place(origin, name)
    if place is None:
        return None
    if origin == "timm":
        return _of_timm(arch, name, place)
    import torchvision

    return _of_torchvision(arch, name, torchvision.models.get_model_weights(name).DEFAULT)


def _fits(arch: str, of_weights: str) -> bool:
    (here, one), (there, other) = resolve(arch), resolve(of_weights)
    return here == there and _without_tag(one) == _without_tag(other)


def _without_tag(name: str) -> str:
    return name.partition(".")[0]


# ---- names -----------------------------------------------------------------------------------


def _by_name(given: str, ask: bool) -> WeightsSource:
    prefix, _, rest = given.partition(":")
    if prefix in ("hf-hub", "hf_hub") and rest:
        owner, _, name = rest.partition("/")
        known = _timm_name(name) if owner == "timm" else None
        return _of_timm_name(given, known) if known else _of_hub(given, rest, ask)
    if prefix == "torchvision" and rest:
        return _of_torchvision_name(given, rest)
    if re.fullmatch(r"\w+_Weights\.\w+", given):
        return _of_torchvision_name(given, given)
    known = _timm_name(given.removeprefix("timm/"))
    if known:
        return _of_timm_name(given, known)
    if given.startswith("timm/"):
        return _of_hub(given, given, ask)
    found = weights_of(given) if look_up(given) is not None else None
    if found is not None:
        return found
    raise ModelError(
        f"There are no weights {given!r}: it is no file, and neither timm nor torchvision has weights of that name."
        f"{did_you_mean(given, all_names())} Give a file, a run, resnet18.a1_in1k, hf-hub:OWNER/NAME, or "
        "torchvision:ResNet50_Weights.IMAGENET1K_V2."
    )


def _timm_name(name: str) -> str | None:
    """The name if timm knows its architecture, whatever the tag."""
    import timm

    return name if "/" not in name and timm.is_model(name) else None


def _of_timm_name(given: str, name: str) -> WeightsSource:
    import timm

    base = _without_tag(name)
    tags = timm.list_pretrained(f"{base}.*")
    if name != base and name not in tags:
        raise ModelError(
            f"timm has no weights {name!r}.{did_you_mean(name, tags, limit=1)} Of {base} it has "
            f"{', '.join(tags) or 'none'}."
        )
    place = weights_place("timm", name)
    if place is None:
        raise ModelError(f"There are no weights {given!r}: timm has none for {base}.")
    return _of_timm(given, name, place)


def _of_timm(given: str, name: str, place: Path | str) -> WeightsSource:
    import timm

    config, base = timm.models.get_pretrained_cfg(name), _without_tag(name)
    assert config is not None  # there are weights
    tag = f"{base}.{config.tag}" if config.tag else base
    return WeightsSource(given, "timm", base, place, name, of_timm(config, tag))


def _of_torchvision_name(given: str, name: str) -> WeightsSource:
    import torchvision

    wanted, _, entry = name.partition(".")
    kinds = {type_.__name__: (arch, type_) for arch, type_ in _torchvision_kinds().items()}
    if wanted in kinds:
        arch, kind = kinds[wanted]
        if entry in kind.__members__:
            return _of_torchvision(given, arch, kind[entry])
        raise ModelError(f"torchvision has no weights {name!r}. Of {wanted} it has {', '.join(kind.__members__)}.")
    if name in torchvision_names():
        return _of_torchvision(given, name, torchvision.models.get_model_weights(name).DEFAULT)
    raise ModelError(
        f"torchvision has no weights {name!r}.{did_you_mean(name, [*kinds, *torchvision_names()])} They are called as "
        "in ResNet50_Weights.IMAGENET1K_V2."
    )


def _torchvision_kinds() -> dict[str, Any]:
    """Architecture -> the enumeration of its weights."""
    import torchvision

    return {name: torchvision.models.get_model_weights(name) for name in torchvision_names()}


def _of_torchvision(given: str, name: str, weights: Any) -> WeightsSource:
    tag = f"{type(weights).__name__}.{weights.name}"
    arch = f"torchvision/{name}" if look_up(name) != ("torchvision", name) else name
    classes = tuple(weights.meta["categories"]) if "categories" in weights.meta else None
    place, seen = torchvision_place(weights), of_torchvision(weights, tag)
    return WeightsSource(given, "torchvision", arch, place, tag, seen, classes=classes)


# ---- the hub ---------------------------------------------------------------------------------


def _of_hub(given: str, repository: str, ask: bool) -> WeightsSource:
    """A model that timm wrote to the hub: `config.json` says what it is."""
    import timm

    config = _description(given, repository, ask)
    arch = config.get("architecture")
    if not isinstance(arch, str) or not timm.is_model(arch):
        raise ModelError(
            f"{given} is no model that timm can build: its config.json names the architecture {arch!r}. Give a model "
            "that timm wrote, or a file of its weights."
        )
    if config.get("model_args"):
        raise ModelError(
            f"{given} is a {arch} that was built with {config['model_args']}, which --arch cannot say. Give another."
        )
    about = {**config, **config.get("pretrained_cfg", {})}
    names = config.get("label_names") or about.get("label_names")
    classes = tuple(map(str, names)) if isinstance(names, list) else None
    seen = of_timm(about, repository)
    place = hub_place(repository, about.get("hf_hub_filename"))
    return WeightsSource(given, "hub", arch, place, repository, seen, classes=classes, config=about)


def _description(given: str, repository: str, ask: bool) -> dict[str, Any]:
    """The config.json of a model on the hub, from the cache or downloaded."""
    place = hub_place(repository, "config.json")
    if isinstance(place, str):
        problem = unreachable(place) if ask else "it is not on this machine, and the hub is not asked"
        if problem is not None:
            raise ModelError(f"--weights {given}: they cannot be had: {problem}. {OTHER_WEIGHTS}")
        place = _downloaded(given, repository)
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{place} is no description of a model: {error}.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{place} is no description of a model: it holds a {type(found).__name__}.")
    return found


def _downloaded(given: str, repository: str) -> Path:
    from huggingface_hub import hf_hub_download

    name, _, revision = repository.partition("@")
    try:
        return Path(hf_hub_download(name, "config.json", revision=revision or None))
    except Exception as error:  # the hub's client raises what it likes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"There are no weights {given!r} that can be had from the Hugging Face hub: {reason}. Names are "
            "OWNER/NAME, and what timm knows needs no owner: resnet18.a1_in1k."
        ) from error


# ---- files -----------------------------------------------------------------------------------


def _of_file(given: str, file: Path, arch: str | None) -> WeightsSource:
    checkpoint = _exported_in(file) if file.suffix == ".safetensors" else _checkpoint_in(file)
    if checkpoint is not None:
        return _of_checkpoint(given, file, checkpoint)
    return WeightsSource(given, "file", None, file, preprocessing=None if arch is None else _guessed(file, arch))


def _checkpoint_in(file: Path) -> Mapping[str, Any] | None:
    """What a checkpoint of litscope holds; None for any other file, also one that cannot be read: its reader tells."""
    try:
        found = load_file(file, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return found if isinstance(found, Mapping) and _is_network(found.get("hyper_parameters")) else None


def _exported_in(file: Path) -> Mapping[str, Any] | None:
    """The same of a file that `litscope export --to safetensors` wrote; None for any other."""
    found = description_in(file) or {}
    settings = found.get("network")
    return {"hyper_parameters": settings, SAMPLES: found.get("samples")} if _is_network(settings) else None


def _is_network(settings: Any) -> bool:
    return isinstance(settings, Mapping) and {"arch", "num_classes", "stem"} <= settings.keys()


def _of_checkpoint(given: str, file: Path, found: Mapping[str, Any]) -> WeightsSource:
    settings, samples = found["hyper_parameters"], found.get(SAMPLES)
    samples = samples if isinstance(samples, Mapping) else {}
    members = settings.get("num_members", 1)
    if members != 1:
        raise ModelError(
            f"{given} holds {members} networks that were trained at once, and a run starts from one. Give the "
            "checkpoint of a run without --num-members."
        )
    if not isinstance(settings["arch"], str):
        raise ModelError(f"{given} does not say which architecture its weights are of. Give another checkpoint.")
    encoding, names = samples.get("encoding") or {}, samples.get("classes")
    return WeightsSource(
        given,
        "checkpoint",
        settings["arch"],
        file,
        preprocessing=of_checkpoint(settings, encoding, given),
        settings={name: settings[name] for name in _SHAPE if settings.get(name) is not None},
        classes=tuple(map(str, names)) if names else None,
    )


def _guessed(file: Path, arch: str) -> Preprocessing | None:
    """How images were brought to the weights in a file, which does not say: that of the library's weights that have its
    name, else of those that the library prefers for this architecture.
    """
    origin, name = resolve(arch)
    if origin == "own":
        return None
    known = _known_by_torchvision(_without_tag(name))  # first: timm has some of these too, cropped otherwise
    known |= _known_by_timm(name) if origin == "timm" else {}
    for names, seen in known.values():
        if file.name in names:
            return seen
    usual = weights_of(arch)
    if usual is None or usual.preprocessing is None:
        return None
    seen = usual.preprocessing
    ways: dict[Any, str] = {}
    for tag, (_, other) in known.items():
        ways.setdefault((other.mean, other.std), tag)
    note = f"{file.name} does not say so itself"
    if len(ways) > 1:
        others = [tag for (mean, std), tag in ways.items() if (mean, std) != (seen.mean, seen.std)]
        note += (
            f", and others of {_without_tag(name)} are normalised otherwise ({', '.join(others)}): if it is one of "
            "those, name the file as its library does"
        )
    return Preprocessing(
        seen.origin, seen.image_size, seen.crop_pct, seen.interpolation, seen.mean, seen.std, (*seen.notes, note)
    )


def _known_by_timm(name: str) -> dict[str, tuple[set[str], Preprocessing]]:
    """Tag -> the names that a file of these weights may have, and how images were brought to them."""
    import timm

    found = {}
    for tag in timm.list_pretrained(f"{_without_tag(name)}.*"):
        config = timm.models.get_pretrained_cfg(tag)
        assert config is not None  # it is on the list
        names = {f"{tag}{suffix}" for suffix in _SUFFIXES}
        if config.url:
            names.add(Path(urlsplit(str(config.url)).path).name)
        found[tag] = names, of_timm(config, tag)
    return found


def _known_by_torchvision(name: str) -> dict[str, tuple[set[str], Preprocessing]]:
    """As `_known_by_timm`, by the names of torchvision."""
    import torchvision

    if name not in torchvision_names():
        return {}
    found = {}
    for weights in torchvision.models.get_model_weights(name):
        tag = f"{type(weights).__name__}.{weights.name}"
        names = {Path(urlsplit(weights.url).path).name, *(f"{tag}{suffix}" for suffix in _SUFFIXES)}
        found[tag] = names, of_torchvision(weights, tag)
    return found
