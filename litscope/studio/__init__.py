"""A page over run folders, and all that is behind it: look and act, while they train and long after. No torch.

    service         every question and every action as a plain typed method; the only logic is here and below
    refusals        what is refused, as exceptions

    places          which runs there are, and their ids
    lines           a run in a line
    pages           a run's own page
    controls        what can be asked of a run now; what was asked and what is applied
    curves          what was logged, with the journal's events on it
    journal         what was asked, for people
    acting          a request into the journal
    comparison      runs side by side

    shelf           runs that are open, kept up to date
    table           the samples of a run as columns in memory
    values          kinds of columns
    described       what the columns mean
    filters         a filter's text -> a condition
    masks           which samples meet a condition
    orders          samples in an order that does not move
    grid            windows, counts, facets of samples
    sparklines      small curves beside samples
    pictures        pictures of samples, cached
    sample          one sample
    review          suspected label errors, one by one
    maps            samples by two of their numbers
    tables          confusion, classes, calibration
    blocks          columns of numbers as bytes

    http            the service over HTTP
    security        who may ask
    news            what changed, for an event stream
    serving         a socket, a token, a server

The page's own source, in TypeScript, is in page/.

Who may come in: the commands. This room imports the ground floor, `config`, `data`, `ledger`, `curation` and
`uncertainty`.
"""
