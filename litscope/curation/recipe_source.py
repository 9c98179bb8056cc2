"""The data set that a recipe names, opened. No torch."""

from __future__ import annotations

from pathlib import Path

from litscope.config.recipe import Recipe
from litscope.data.sources.source import Source, open_source, require_shards
from litscope.data.sources.splits import Folds
from litscope.data.storage.store import use_endpoint
from litscope.errors import ConfigError


def make_source(recipe: Recipe) -> Source:
    """Open the data set that a recipe names.

    Raises:
        ConfigError: if it names none.
        DataError: if it cannot be used.
    """
    data = recipe.data
    if data.origin is None:
        raise ConfigError("No data set is given. Say which: `litscope fit digits`, or `litscope fit PATH`.")
    use_endpoint(data.endpoint_url)
    source = open_source(
        data.origin,
        data_dir=data.data_dir,
        download=data.download,
        target=data.target,
        val_split=data.val_split,
        test_split=data.test_split,
        group_column=data.group_column,
        image_column=data.image_column,
        image_root=data.image_root,
        channels=data.channels,
        positive_class=data.positive_class,
        soft_label_column=data.soft_label_column,
        soft_label_max=data.soft_label_max,
        fits_stretch=data.fits_stretch,
        fits_limits=data.fits_limits,
        folds=folds_of(recipe),
        seed=recipe.training.seed if data.split_seed is None else data.split_seed,
        cache_dir=None if data.cache_dir is None else Path(data.cache_dir),
    )
    if data.use_webdataset:
        require_shards(source)
    return source


def folds_of(recipe: Recipe) -> Folds | None:
    """The folds that a recipe asks for."""
    data = recipe.data
    return None if data.num_folds is None else Folds(data.num_folds, data.fold, data.fold_tests)
