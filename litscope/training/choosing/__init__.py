"""What nobody gave, chosen from the data by rules that are printed.

    facts             what the choices rest on, read off the data and the machine
    network_choices   which network, from which weights, and what of it is trained
    ensemble_choices  the networks of an ensemble, and what each would have alone
    image_choices     how images are shown to a network, or to each of several
    choices           everything else: batch, epochs, rates
    global_batch      what several devices make of batch, steps and rate
    class_weights     a file of --class-weights, read and checked

Who may come in: `training`, and who lists or tries its choices. No torch but in `facts` and `class_weights`.
"""
