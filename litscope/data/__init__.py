"""From stored bytes to a batch on the device.

    settings          what a data module is told: one field for each setting, with its names and its range
    keywords          the same for type checkers, written by scripts/keywords.py
    sources/          what `--dataset` may name -> rows, splits and a reader
    shards/           images in tar files of many, and where in them each lies
    storage/          files that lie anywhere: in a folder, behind http, in S3 or Google's storage
    reading/          sample_id -> pixels or features: formats, decoding, the pixel cache
    manifest          which samples there are, and what is known of each
    sample_facts      what a trained network must know of samples that it has never seen
    content           which sample of a run a row is: by its content, then by its key
    stored            at which size pixels are kept, and where: in memory, in the cache, or decoded anew
    groups            groups of samples, and what splits of whole groups came out as
    looks             what reading images, or a part of each, says of them
    preflight         what is wrong with a data set, before the first step
    opened            all of this for one data set
    datamodule        the LightningDataModule: splits, epochs and the position in them
    sampler           which ids, in what order, for which rank
    pieces            where in shards samples lie beside each other, and an order that keeps to it
    draws             which ids an epoch has that may draw one several times: by class, by weight
    redrawn           an epoch whose samples were changed while it ran
    visits            how often an epoch had drawn the samples of a batch before
    overlay           what people decided about samples, laid over the manifest
    pruning           which training samples an epoch leaves out
    small_loss        which training samples count in an epoch, by their losses
    loader            ids in, batches out, and the position in an epoch
    gather_loader     of data in memory
    stream_loader     of images that are decoded in every epoch
    resident          rows in a GPU's memory
    batch_transform   from the bytes of a batch on its device to the network's input
    transforms        augmentation, of whole batches
    mixing            mixup and CutMix

Who may come in: every room but `config`, `models`, `ledger`, `live` and `launch`. This room imports the ground floor
only. `manifest`, `sample_facts`, `content`, `groups`, `looks`, `preflight`, `sampler`, `pieces`, `draws`, `redrawn`,
`stored`, `sources/` and, but for `decoding`, `reading/` import no torch: `curation` opens data where there is none.
"""
