"""The networks, by name.

    backbones     any classifier of timm or torchvision, or of our own, for any classes, channels and pixels
    names         the names of all, without importing any
    nets          our own: mlp, convnet, whitenet
    members       several MLPs trained as one
    stems         how a network of photographs begins on small images
    weights       weights to start from: a local file, or what timm and torchvision offer

Who may come in: `models`, and rooms that may import it, for the lists of names. This room imports the ground floor,
and of `models` the losses and the settings.
"""
