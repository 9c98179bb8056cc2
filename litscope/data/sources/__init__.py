"""What a data set's name or path stands for. No torch.

    source        the door: a name, folder, list or table -> a Source (manifest, reader, notes)
    again         the same for data that a run is evaluated on: read as the run reads
    new           new data for a trained model: paths, or arrays in memory
    names         names of data sets, and whether what is named is there
    listing       what each kind of source is read into
    folders       train/val/test/<class>/... or <class>/...
    layout        which of its folders are splits and which are classes
    tree          the files below a folder, however it is linked
    lists         CSV and Parquet files: lists of images, and tables
    columns       which column of a file is what: label, split, group, image paths, the index of rows
    headers       channels, bands and dtype of a data set, from some of its files
    image_files   image paths as people write them -> files that are there
    soft_labels   grades of a file -> how likely each class is
    table_files   CSV and Parquet files as Arrow tables
    tables        how the columns of a table become features
    numbers       cells of a table -> numbers, without loss before they are centred
    delimited     a CSV file's encoding, separator and header
    sharded       folders of shards
    shard_names   texts that name shards by their addresses
    addressed     addresses -> an index of the shards there
    foreign       tar files of others -> an index of them
    arrays        .npz files: features, or images and the axis of their channels
    named         bundled and downloaded data sets
    splits        which samples train, validate and test where the data do not say so

Who may come in: `data`, and rooms that may import it. This room imports the ground floor, and of `data` the manifest
and `reading/`.
"""
