"""The samples of a run: filtered, ordered, drawn, counted. No torch.

    shelf           runs that are open, kept up to date
    table           the samples of a run as columns in memory
    scored          their scores
    measured        what `evaluate --record` measured, as columns
    turns           one large read after the other
    values          kinds of columns
    described       what the columns mean
    filters         a filter's text -> a condition
    masks           which samples meet a condition
    orders          samples in an order that does not move
    grid            windows, counts, facets of samples
    selection       the samples that an action is about
    sql_answers     the answer to a query, as plain values
    sparklines      small curves beside samples
    pictures        pictures of samples, cached
    sample          one sample
    review          suspected label errors, one by one
    maps            samples by two of their numbers
    evaluations     the last evaluation of each split
    tables          confusion, classes, calibration
    blocks          columns of numbers as bytes

Who may come in: `studio`.
"""
