"""Short trials before a run. Each leaves weights, data and random numbers exactly as it found them.

    trial           a Trainer without files, and everything put back afterwards
    lr_find         sweeps of the learning rate
    lr_curve        from their losses to one suggestion
    batch_find      a few steps of each batch size: does it fit, and how fast is it?
    batch_curve     which sizes to try, and which one to suggest
    speed_probe     the precision, memory format and threads with which a CPU trains a network fastest
    speed_memory    what a probe found, kept for the next run like it

Who may come in: `training`, and the commands for the two finders. This room imports no room that `training` may not.
"""
