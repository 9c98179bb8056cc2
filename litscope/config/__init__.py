"""From flags, YAML files and keywords to one checked recipe. No torch.

    recipe       the tree of five sections, and what they allow each other
    section      what a section is: fields with their names, checks and docstrings
    model        which network
    data         which samples
    training     how long, how fast, against which loss
    calibration  what is to be learned of how logits are read, once they are trained
    hardware     where it computes
    strategies   how several devices share the work, under all names of it
    logging      what is recorded, and where
    fields       the table of all fields; a value from outside becomes one of theirs
    options      the flags: of each field, and the options around them
    flags        command lines and keywords: layers of settings, put over each other
    keywords     the types of the keywords, written by scripts/keywords.py
    signature    the signature of a call that takes them
    yamlfile     YAML files, with the line of every value, read and written
    presets      a file's sections, its `lightning:` block and its presets
    chosen       which values litscope chose itself, and when it chooses them anew
    resume       what --resume means, and the recipe of the run that goes on
    help         the text of --help

Who may come in: everybody above the ground floor who is told by a recipe what to do; not `data`, `models`, `ledger`,
`live` or `watch`, which are given their own settings. This room imports the ground floor only.
"""
