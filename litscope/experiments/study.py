"""What Optuna does for a search: it proposes settings, says which trial is behind, and what each setting explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from litscope.experiments.search_space import Dimension
from litscope.experiments.trials import Trial

if TYPE_CHECKING:
    import optuna

NUM_RANDOM = 8
"""Trials whose settings are drawn by chance, before TPE proposes them."""

MEDIAN_OF = 5
"""How many trials must be complete before the median stops one."""

KEPT_OF = 3
"""Of so many trials, halving lets one go on for as many times the epochs."""

LEAST_EXPLAINED = 4
"""Complete trials without which nothing is said of how much each setting explains."""

NAME = "tune"


def sampler(seed: int, number: int) -> optuna.samplers.BaseSampler:
    """What proposes the settings of a trial: the first ones by chance, the others by Optuna's TPE.

    It is made anew for each trial, so that a search that was interrupted goes on as it would have, and no two processes
    propose the same by chance.

    Args:
        seed: of the search.
        number: of the trial, from 0.
    """
    import optuna

    return optuna.samplers.TPESampler(seed=seed + number, n_startup_trials=NUM_RANDOM)


def make_study(
    mode: str, pruner: str, num_epochs: int | None, storage: optuna.storages.BaseStorage | None = None
) -> optuna.Study:
    """Optuna's record of the trials, new or the one that a storage holds.

    Args:
        mode: "min" or "max" of the metric.
        pruner: one of `search_space.PRUNERS`.
        num_epochs: of each trial; None if they are searched: trials of several lengths are not compared.
        storage: that several processes share.
    """
    import optuna

    return optuna.create_study(
        direction="maximize" if mode == "max" else "minimize",
        pruner=_pruner(pruner, num_epochs),
        storage=storage,
        study_name=NAME,
        load_if_exists=storage is not None,
    )


def _pruner(name: str, num_epochs: int | None) -> optuna.pruners.BasePruner:
    """How trials that are behind are found out.

    median: the rule of Golovin et al. 2017 ("Google Vizier", section 3.2.2). halving: successive halving without
    waiting for each other (Li et al. 2020, "ASHA"). hyperband: several of these that begin at different epochs (Li et
    al. 2018).
    """
    from optuna import pruners

    if name == "none" or num_epochs is None:
        return pruners.NopPruner()
    if name == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=max(1, num_epochs // KEPT_OF**2), reduction_factor=KEPT_OF)
    if name == "hyperband":
        return pruners.HyperbandPruner(min_resource=1, max_resource=max(2, num_epochs), reduction_factor=KEPT_OF)
    return pruners.MedianPruner(MEDIAN_OF, n_warmup_steps=max(1, num_epochs // 5))


def state_of(trial: Trial) -> optuna.trial.TrialState:
    """How a trial ended, in Optuna's terms."""
    from optuna.trial import TrialState

    return {"failed": TrialState.FAIL, "complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}[trial.state]


def tell_again(study: optuna.Study, trial: Trial, values: Mapping[int, float], space: Sequence[Dimension]) -> None:
    """Tell a new study of a trial that is over, as it was told when it trained, so that the pruner knows it too.

    Args:
        values: of the metric by epoch.

    Raises:
        ValueError: if its settings are not in the space.
    """
    import optuna

    distributions = {dimension.field.name: dimension.distribution for dimension in space}
    optuna.trial.create_trial(params=trial.settings, distributions=distributions, value=0.0)  # which looks at them
    study.enqueue_trial(trial.settings)
    told = study.ask(distributions)
    for epoch, value in sorted(values.items()):
        told.report(value, epoch)
        told.should_prune()
    study.tell(told, trial.value if trial.state == "complete" else None, state=state_of(trial))


def explained(trials: Sequence[Trial], space: Sequence[Dimension], mode: str, seed: int) -> dict[str, float] | None:
    """The share of the metric's variance over the space that each setting explains (fANOVA, Hutter et al. 2014).

    Only complete trials count. What two settings explain together is shared out with what each explains alone, so that
    all sum to 1.

    Returns:
        By name, the greatest first; None where fewer than `LEAST_EXPLAINED` trials are complete, or all came to the
        same.
    """
    import optuna

    complete = [trial for trial in trials if trial.state == "complete"]
    if len(complete) < LEAST_EXPLAINED or len({trial.value for trial in complete}) < 2:
        return None
    study = make_study(mode, "none", None)
    distributions = {dimension.field.name: dimension.distribution for dimension in space}
    for trial in complete:
        made = optuna.trial.create_trial(params=trial.settings, distributions=distributions, value=trial.value)
        study.add_trial(made)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    found: dict[str, Any] = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: round(float(share), 4) for name, share in found.items()}
