"""What a training under way needs, whoever wrote its loop: `training` and `watch` stand on it.

    stop_requests    Ctrl-C and SIGTERM ask a run to stop
    ranks            what the processes of a run tell each other besides gradients
    pace             what is due at a step's end: a stop, a checkpoint, the end of the time
    steered          what `steering` asks of a training
    steering         requests of people reach the run between two steps, and are answered
    capture          from a step's outputs to the ledger's parts, without waiting for the device
    epoch_clock      how long an epoch takes, also one that was interrupted
    device_use       what a process makes of its device in an epoch
    records          the one writer of metrics/*.jsonl and summary.json; imports no torch
    environment      what a run ran on
    beside           a studio, as a process of its own

Who may come in: `training`, `watch`, `experiments` and the commands. This room imports the ground floor and `ledger`.
"""
