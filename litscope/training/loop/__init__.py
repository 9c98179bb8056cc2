"""What runs inside Lightning's loop.

    recorder        the one callback at each batch's end: it records, saves, steers and stops the run
    fit_record      what has been recorded of the present fit, and where it stands
    recording       what a process records with, once the ranks have met
    same_data       whether all ranks have read the same samples
    trainer_parts   from a trainer to our own data module, classifier and metrics, typed
    loss_watch      the losses on the device: their mean, and the first that is not a number
    clean_pass      samples shown as in an evaluation, in the middle of training
    last_losses     what pruning and selection learn about each sample
    canaries        wrong labels that the run plants, and takes out again
    planting        their turn at an epoch's end, when the network is asked what tempts it
    steered_fit     how an action of a person reaches loops, data, schedule and optimizer
    stride          how many steps one call takes, and whether they are compiled
    checkpoints     files from which a run resumes exactly
    rank_states     what a checkpoint holds of each rank
    early_stopping  when a run has learned enough
    ema             averaged weights
    progress        the bar, and a line for each epoch

Who may come in: `training` itself, and `experiments` to read checkpoints.
"""
