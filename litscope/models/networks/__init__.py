"""The networks, by name.

    backbones      any classifier of timm or torchvision, or of our own, for any classes, channels and pixels
    architectures  what a name of one means, and which there are
    names          the names of all, without importing any
    zoos           what timm and torchvision build
    nets           our own: mlp, convnet, whitenet
    members        several MLPs trained as one
    net_members    several whole networks in one module
    ensembles      the same, ready to train
    thinned        a network with dropout that leaves out the same for every sample of a pass
    fusion         the answers of several networks made one: mean, median, vote, weighted, by variance, stacked
    stems          how a network of photographs begins on small images
    blocks         the repeated blocks of a network, and its large parts
    recomputed     blocks that are computed again in the backward pass
    dropout        dropout that stays on while a network predicts
    heads          the last layer, and the features that it is given
    sources        what a name of weights means: a file, a checkpoint, weights of timm, torchvision or a hub
    preprocessing  how images were brought to a network while its weights were trained
    weights        the tensors of a file, and how they come into a network
    packaged       weights that come as a package of the Python index
    hub            where pretrained weights are: a package, a cache, a host

Who may come in: `models`, and rooms that may import it, for the lists of names. This room imports the ground floor,
and of `models` the losses and the settings.
"""
