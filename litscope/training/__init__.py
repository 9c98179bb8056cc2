"""One run, from a recipe to its summary.

    fit              the story, top to bottom: `litscope.fit` and `litscope fit`
    prepare          its beginning, told once for fit, check, the finders, tune, cv and the worker processes
    refused          what a recipe asks that checkpoint or data do not allow
    checkup          `litscope check`: the beginning alone, as a report
    hardware         what this machine has, and whether the recipe's hardware settings work on it
    mid_epoch        whether a checkpoint inside an epoch can be taken up
    settings         what people may change while a run trains
    build            from a recipe to objects: the source, the data module, the network, the Trainer
    loggers          where metrics go besides the run's own files
    run_folder       the folder of a run: made for a new one, checked for one that goes on
    preemption       what ends a run that a scheduler, or a person, asks to stop
    requeued         a job's next start goes on with the run of the one before
    fusing           at its end, an ensemble learns how its members' answers become one
    calibrating      at its end, learns how its best weights' logits are read
    readouts         what is learned of that from samples, by numbers alone
    kept_readout     what was learned, in a checkpoint
    recorded         what a network says of each sample, with the scores
    job              the records that every process of a run has, and the result
    passed_on        the caller's own metrics and callbacks, on the way to the other processes
    worker           one of several processes
    threads          how many torch computes with, for a while
    quiet            Lightning's own messages, turned off
    summary          summary.json and the pictures beside it, at the end
    choosing/        what nobody gave, chosen from the data
    tuning/          a run that starts from weights
    strategies/      several devices that share one network
    loop/            what runs inside Lightning's loop
    probes/          short trials before a run: learning rate, batch size, speed

Who may come in: `evaluation`, `experiments` and the commands.
"""
