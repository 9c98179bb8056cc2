"""A page over run folders, and all that is behind it: look and act, while they train and long after. No torch.

    service         every question and every action as a plain typed method; the only logic is here and below
    kept            what is kept of a run besides its samples, and read ahead
    acting          a request into the journal
    refusals        what is refused, as exceptions
    runs/           which runs there are, and what is told of one as a whole
    samples/        the samples of a run: filtered, ordered, drawn, counted
    doors/          how the service is reached
    report/         a run, a search or a cross-validation as one HTML file

The page's own source, in TypeScript, is in page/.

Who may come in: the commands. This room imports the ground floor, `config`, `data`, `ledger`, `curation` and
`uncertainty`.
"""
