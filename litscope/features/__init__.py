"""What a network makes of each image before its last layer: one row of numbers, its features, and what they tell.

    batches       the features of batch after batch, by several threads
    extraction    the features of a data set, computed once
    file          where they are kept for the next run: a file of the cache folder, named by all that they depend on
    table         features as a table that a person, or `litscope fit`, can read
    neighbours    which images a network finds most alike
    duplicates    pairs of images that are one picture: features propose, pixels decide
    unit          features as directions, between which distances are measured
    label_errors  labels that are probably wrong, of images on which nobody has trained
    head          a head fitted to features, without a loop of training

Who may come in: `training`, `evaluation`, `experiments` and the commands. This room imports the ground floor, `data`,
`models` and `ledger`; `file` and `table` need no torch.
"""
