"""What a data set's name or path stands for. No torch.

    source        the door: a name, folder, list or table -> a Source (manifest, reader, notes)
    again         the same for data that a run is evaluated on: read as the run reads
    listing       what each kind of source is read into
    folders       train/val/test/<class>/... or <class>/...
    layout        which of its folders are splits and which are classes
    tree          the files below a folder, however it is linked
    lists         CSV, Parquet and .npz files of images
    tables        CSV and Parquet files whose columns become features
    named         bundled and downloaded data sets
    splits        which samples train, validate and test where the data do not say so

Who may come in: `data`, and rooms that may import it. This room imports the ground floor, and of `data` the manifest
and `reading/`.
"""
