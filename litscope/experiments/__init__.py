"""Trainings that answer a question. Each is made of runs, and leaves the run that it asks about as it is.

    reruns            further trainings with a run's recipe, in folders of their own
    replay            does a run repeat, with its actions at their steps?
    bit_equal         where two runs differ, and what differs around them
    whatif            what would a decision do to the validation metric?
    whatif_result     its answer: both arms, their difference, one sentence
    planted           how well does the ranking find wrong labels that are known?
    fresh             flags that only make sense for a single run
    many_runs         one recipe trained many times, in a single run where possible
    search_space      the settings that a search may vary
    trials            what a search found
    study             what Optuna does for a search
    tune              which settings are best?
    shared_search     the same, asked by several processes that share a folder
    search_workers    such processes on one machine, each with its share of the cores
    pruned            a training inside an Optuna objective of one's own
    search_report     the pictures and the page of a search
    cv                how good is a network on samples that it has not seen?
    cv_result         its answer: metrics of each fold and of all predictions
    ensemble          networks of separate runs as one: which rule, and is it better than the best of them?
    ensemble_members  these networks, opened and held side by side
    ensemble_splits   the samples that none of them was trained on
    ensemble_folds    what several cross-validations say of samples that they have in common, out of fold
    ensemble_folder   the one network, and the run folder that holds it
    ensemble_result   what came out
    prune             is training on fewer samples worth more than training for less time?

Who may come in: the commands.
"""
