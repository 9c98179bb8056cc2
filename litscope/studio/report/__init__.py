"""A run, a search or a cross-validation as one HTML file. No torch.

    report          which folder it is, and the whole file
    of_run          the parts of a run's report
    of_curves       its curves
    of_samples      its confusion, classes, calibration and data map
    of_suspects     its suspected label errors, with pictures
    of_search       the parts of a search's report
    of_folds        the parts of a cross-validation's report
    plots           curves, points, densities and bars as SVG
    markup          elements, tables and the page; all texts are escaped here
    style           colours and sizes

Who may come in: `commands`.
"""
