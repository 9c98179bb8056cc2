"""A run that starts from weights: before its first step, and what its features tell at its end.

    start_weights  where the weights come from, and what they say of images
    finetune       the features that a head trains on, first or alone
    surroundings   what features tell of a run's samples when it has ended

Who may come in: `training` and `experiments`.
"""
