"""The journal of a run: an append-only file of requests and answers. No torch.

    verbs        what may be asked, with which arguments
    actions      the file: asking, answering, reading, what is still to do
    decisions    what all actions add up to, as a fold without files
    undoing      which action an undo takes back
    describe     actions and answers in words

Who may come in: `ledger`, and rooms that may import it.
"""
