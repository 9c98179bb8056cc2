"""The samples of a watched run: which one each item of a person's own data sets is, whatever object carries it.

    ids          data sets whose items carry their id
    nesting      data sets inside data sets, and what they tell about their samples
    drawn        which samples a loader draws, whatever stands between the two
    parts        a stretch of a run's samples, and what people decided about it
    identity     which part a data set is that was made anew
    keys         a key of its own for every sample, the same from run to run
    own_ids      what ids of a person's own stand for, the same in all processes
    roster       all samples of a run, and their manifest
    census       the roster and its manifest on the disk, the same in all processes

Who may come in: `watch`.
"""
