"""The processes of a run: one for each device.

    places     where a process stands, and where they meet, as the environment says
    peers      the other processes: whether they live, and what they tell each other
    farewells  a process that leaves says why, and the others end with its reason
    held_back  signals that wait until a process can hear them
    requeue    puts the batch job back into the queue
    lookout    says which process is silent, and ends a run that cannot end itself
    workers    starts the other processes of this machine, and ends them
    joined     a run whose processes srun or torchrun started: the first leads, the others follow

Who may come in: `training`.
"""
