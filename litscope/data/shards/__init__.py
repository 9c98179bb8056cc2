"""Images in tar files of many, for storage that serves large pieces well, with an index of where each sample lies. No
torch.

    index        index.parquet: key, label, split, and the place of each sample's bytes
    tars         members of a tar file, with the same bytes every time
    encode       an image -> the bytes that are stored of it
    write        images -> shards, which the webdataset library reads too, and their index
    members      headers of tar files that others wrote
    scan         their members -> samples: images with labels
    upload       shards -> a bucket
    verify       whether shards still are what was written
    fetch        parts of shards elsewhere, asked for again, and kept on the disk
    ahead        the bytes of samples that will be asked for, read before they are
    local_files  parts of shards on this machine, which stay open
    reader       sample_id -> pixels, by the place of its bytes

Who may come in: `data`, and rooms that may import it. This room imports the ground floor, and of `data` the manifest
and `reading/`.
"""
