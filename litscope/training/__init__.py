"""One run, from a recipe to its summary.

    fit              the story, top to bottom: `litscope.fit` and `litscope fit`
    prepare          its beginning, told once for fit, check, the finders, tune, cv and the worker processes
    checkup          `litscope check`: the beginning alone, as a report
    hardware         what this machine has, and whether the recipe's hardware settings work on it
    facts            what the choices rest on, read off the data and the machine
    network_choices  which network, from which weights, and what of it is trained
    start_weights    the weights that a run starts from, by what names them
    choices          what nobody gave, chosen from the data by rules that are printed
    settings         what people may change while a run trains
    build            from a recipe to objects: the source, the data module, the network, the Trainer
    class_weights    a file of --class-weights, read and checked
    loggers          where metrics go besides the run's own files
    finetune         what a run with weights does before its first step: features for its head
    run_folder       the folder of a run: made for a new one, checked for one that goes on
    job              the records that every process of a run has, and the result
    passed_metrics   the caller's own metrics, on the way to the other processes
    surroundings     what features tell of a run's samples when it has ended
    worker           one of several processes
    threads          how many torch computes with, for a while
    quiet            Lightning's own messages, turned off
    summary          summary.json and the pictures beside it, at the end
    loop/            what runs inside Lightning's loop
    probes/          short trials before a run: learning rate, batch size, speed

Who may come in: `evaluation`, `experiments` and the commands.
"""
