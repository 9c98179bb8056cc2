"""Scores: what the visits of a sample add up to, brought up to date after each epoch. No torch.

    score_schema    the vocabulary of scores, and how scores.parquet stores them
    scores          the arithmetic, one epoch at a time, vectorised over samples
    suspicion       the ranking of label errors
    clock           the memorisation clock: which epochs the ranking looks at
    tally           the sums of every sample, and how far they have read
    recent          where each sample stands now: means over the last epochs
    scorekeeper     scores up to date: on demand, and by a thread beside the training
    recall          what canaries tell of it
    trust           how far the ranking of suspects can be trusted

Who may come in: `ledger`, and rooms that may import it.
"""
