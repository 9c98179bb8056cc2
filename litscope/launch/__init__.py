"""The processes of a run: one for each device.

    places     where a process stands, and where they meet, as the environment says
    workers    starts the other processes of this machine, and ends them
    held_back  signals that wait until a process can hear them
    requeue    puts the batch job back into the queue
    lookout    says which process is silent, and ends a run that cannot end itself

Who may come in: `training`.
"""
