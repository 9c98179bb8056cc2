"""Networks by name, and the LightningModule that trains them.

    settings          what a classifier is told: one field for each setting, with its names and its range
    keywords          the same for type checkers, written by scripts/keywords.py
    networks/         the networks themselves, and weights to start from
    forward           from a batch to logits and probabilities: the network, and what stands around it
    readout           how logits are read, learned once they are trained: a scaling, a threshold, a limit of sets
    joined            networks that were trained apart, side by side as the members of one ensemble
    predictor         that alone, which predicts without Lightning
    classifier        the LightningModule: forward, and from a batch to a step of training
    measured          its hooks at the ends of an epoch, which log metrics
    over_ranks        what several processes add up in a step
    learning/         loss, optimizer, schedule and steps
    metrics           accuracy, AUROC and the rest of one phase, exact over ranks
    given_metrics     metrics of torchmetrics that a caller adds
    phases            the metrics of training, validation and test, side by side
    tta               several views of one test image
    checkpoint_file   a checkpoint read, of which nothing is run
    checkpoint_parts  checkpoints whose large tensors lie in files beside them
    shards            weights that are divided over processes, and whole ones
    archive           a look at a file of torch.save before it is read

Who may come in: `features`, `training`, `evaluation`, `experiments` and the commands. This room imports the ground
floor only: it knows neither where samples come from nor what a run is. `settings` and `readout` import no torch,
`forward` and `predictor` no Lightning.
"""
