"""How weights move: what training minimises, in which steps, at which rate.

    losses          what training minimises
    early_learning  a penalty that keeps a network by what it first said of each sample
    optim           optimizers by name, and their groups of parameters
    schedule        the learning rate as a function of the step
    step_plan       how many steps a run has
    scheduled       the LightningModule's optimizer and the plan of its learning rate
    steps           several optimizer steps in one call of Lightning's loop
    compiled        such a step as one compiled graph
    graphed         such a step as one CUDA graph

Who may come in: `models` and `training`.
"""
