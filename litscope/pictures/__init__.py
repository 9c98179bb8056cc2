"""The PNG files of a run. No torch; matplotlib and Pillow are imported when something is drawn.

    colours          what blue and orange mean, and text that is read on any of them
    lettering        text in lines that fit
    canvas           what all charts share: a figure, its axes, and how it is written
    search_charts    how a search went, and what its settings are good for
    charts           curves, the confusion matrix, learning-rate sweeps
    heatmap          a map of heat over the image that it is about
    contact_sheet    images in a grid, with a caption below each; one image as a small file

Each function draws one picture and writes it whole. Who may come in: every room.
"""
