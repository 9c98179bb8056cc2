"""Which runs there are, and what is told of one as a whole. No torch.

    places          which runs there are, and their ids
    lines           a run in a line
    pages           a run's own page
    controls        what can be asked of a run now; what was asked and what is applied
    curves          what was logged, with the journal's events on it
    journal         what was asked, for people
    comparison      runs side by side

Who may come in: `studio`.
"""
