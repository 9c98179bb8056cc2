"""The command line's verbs: one short function for each command, whose docstring is its help.

    line          what all commands share: parser, output, the recipe behind the flags
    envelope      the one JSON document that --json prints
    places        whether what is given is there, asked before anything large is imported
    text          results as tables and curves for people
    train         fit, check, lr-find, batch-size-find, calibrate, evaluate, predict, models, doctor, demo
    search        tune, cv
    ensembles     ensemble
    experiment    replay, whatif
    bench         bench prune
    launch        launch slurm, launch torchrun
    jobs          jobs, logs, cancel
    studio        studio
    report        report
    console       console
    runs          runs, rename, delete
    ask           worst, scores, sample, confusions
    suspects      suspects
    extract       sql, compare, export
    features      features, neighbours
    shards        prepare, verify
    sources       flags of commands that take a run or a data set
    choose        which run, and which samples of it, an action is about
    send          write an action into a run's journal, wait for the answer
    act           discard, restore, relabel, reweight, tag, untag
    steer         set, pause, resume, checkpoint, stop
    journal       actions, undo
    completion    completion in shells

Who may come in: `litscope.cli` only. Commands import other rooms inside their functions, so that `litscope --help` is
fast and asking a run needs no torch.
"""
