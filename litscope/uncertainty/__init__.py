"""What a probability is worth: pure functions of probabilities and labels, in numpy.

    entropies       how sure a network is of a sample, and how far its members or passes disagree
    proper          losses of probabilities that only the true ones minimise
    calibration     whether of what is said with p, the share p is right
    temperature     logits made to say what is right, by a number or a vector fitted on data kept aside
    selective       what is gained where the least sure answers are withheld
    conformal       sets of classes that hold the true one as often as was asked
    operating       of two classes: thresholds for an aim, and hits at a given rate of false alarms
    confident       labels that probabilities of networks that have not seen the samples speak against
    bootstrap       intervals, by groups where samples belong together
    fusion          what the fusion of several networks learns, and whether it beats the best of them

Probabilities are (N, C) float64, rows sum to 1; labels (N,) int64 in [0, C). Rows without a label are the caller's to
leave out. Who may come in: `training`, `evaluation`, `experiments`, `delivery` and the commands. This room imports the
ground floor only. No torch.
"""
