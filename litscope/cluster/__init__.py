"""Jobs of a cluster's scheduler: written, submitted, looked at and cancelled from the login node.

    quoting     a word for a shell, and a value for an #SBATCH line
    timelimit   a time limit as Slurm reads it
    site        a cluster's habits: partition, modules, container, ... from flags and a YAML file
    program     what every task of a job runs: a training of ours, checked before it waits, or somebody's own script
    script      job.sbatch, the whole text
    slurm       sbatch, squeue, scancel, scontrol: what they are asked and what they say
    submission  a job written into the folder of its run, and submitted
    records     which jobs a run has had
    states      where a job stands, and why it waits, in plain words
    listing     the jobs of the runs of a folder
    logs        what a job has said, and what it says next
    cancelling  a job ended by its user
    torchrun    the same training, started by torch's own launcher

Nothing here imports torch: a login node is shared, and a person waits. Who may come in: `commands`.
"""
