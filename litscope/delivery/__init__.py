"""A trained network leaves the house: as one file that other programs run, checked before it appears.

    deliver        `litscope export --to onnx | pt2 | safetensors`, top to bottom
    portable       all that stands before and behind a network, in one module
    formats        the files, and how each is run again
    description    what a file says of itself: classes, input, how a file becomes that input
    inputs         samples to check it on
    check          how far its probabilities are from the run's
    card           MODEL_CARD.md
    snippets       a few lines of Python for each format

Who may come in: the commands and `opened`. Nothing here writes into a run's folder, unless it is told to.
"""
