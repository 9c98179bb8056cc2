"""A trained network on old and new samples.

    evaluate                metrics of a run on one split
    calibrate               learns how a run's logits are read, and keeps it with its weights
    judged                  a classifier whose test reads them so
    quality                 what its probabilities are worth
    ood                     how well samples of no known class are told from those of the run
    asides                  what `evaluate` does besides: strangers, a record of each sample
    quality_lines           that in words
    collected               keeps what a network says, batch by batch
    collect_answers         the same in Lightning's Trainer
    passes                  how often it is asked with dropout on
    tables                  what it says of each sample, as a table
    predict                 predictions for files that the run has never seen, or for samples of its own
    model                   a network in memory, for as many predictions as one likes
    ensemble                the same for several networks, which also takes batches of a loader
    opened_run              a run, with its recipe, its data, and the network of one checkpoint
    network                 a network out of a checkpoint, and how samples reach it
    trained                 its weights and settings, which may be a stranger's
    weights_file            a network in safetensors, with what it takes to build it and to read samples
    precision               the numbers in which it computes
    why                     which places of a sample's image speak for a class, as a picture
    heatmaps                Grad-CAM, and roll-out of attention
    known_data              the run's data as they are now: which row is which sample of the run
    featured                features of the samples of a run, or of a data set on which nobody has trained
    suspects                suspected label errors of a data set on which nobody has trained
    out_of_fold             the file of a cross-validation's predictions, and what a temperature makes of them
    folds                   the same of a run's samples, to learn from how its logits are read
    fold_suspects           suspected label errors by these predictions
    evaluation_data         samples in the form in which the run's network expects them
    evaluation_data_module  the same for Lightning's Trainer

Who may come in: `experiments`, `delivery` and the commands. Nothing here writes into a run's folder, but what
`calibrate` and `evaluate --record` are asked for. `evaluate`, `calibrate`, `judged`, `collect_answers` and
`evaluation_data_module`, which need a Trainer, import Lightning, and so do `featured` and `suspects`, which prepare a
training; predictions do not.
"""
