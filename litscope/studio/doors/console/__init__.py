"""The service at a command line, with completion. No torch.

    session         one console: lines in, answers out
    typed           a line -> a verb and its arguments
    verbs           what can be typed
    asking          what each verb asks of the service
    shown           answers for people
    offers          how a line can go on
    terminal        lines from a person at a terminal, with history and completion

Who may come in: `commands`.
"""
