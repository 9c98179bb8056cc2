"""A trained network on old and new samples.

    evaluate           metrics of a run on one split; how a run is opened with the weights of a checkpoint
    network            a network out of a checkpoint, and how samples reach it: it predicts without a Trainer
    predict            predictions for files that the run has never seen, or for samples of its own
    model              such a network in memory, for as many predictions as one likes
    known_data         the run's data as they are now: which row is which sample of the run
    trained            the network of a checkpoint, which may be a stranger's
    featured           features of the samples of a run, or of a data set on which nobody has trained
    evaluation_data    samples in the form in which the run's network expects them

Who may come in: `experiments` and the commands. Nothing here writes into a run's folder.
"""
