"""sample_id -> pixels or features.

    readers       what reads one sample: files, arrays
    images        the bytes of an image file -> (H, W, K), by one rule for each kind of file
    bands         `.npy` files as images of any number of bands
    fits          FITS files as images of any number of bands, stretched
    npz           `.npz` files, after a look at what they would take in memory
    regular       whether a path may be opened at all
    untrusted     what is done with an image file before it is decoded
    decoding      whole batches of files, in threads; the only one with torch
    cache         every image decoded and resized once, in one memory map
    gaps          how a cell without a value is written
    digests       16 bytes that say whether two samples have the same content
    findings      what a look at every file found, kept beside the cache

Who may come in: `data`, and rooms that may import it. This room imports the ground floor, and of `data` the ids of
`sampler`: it does not know what a data set is called or how it is split.
"""
