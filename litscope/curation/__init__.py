"""A run opened for people, finished or not: what commands stand on that show it and carry its decisions on. No torch.

    run_list        the runs of a folder at a glance; another name for one, away with one
    recipe_source   the data set that a recipe names, opened
    sharding        a data set, or the curated data of a run, into shards
    indexing        tar files that others wrote -> their index
    run_data        a run's data, where its recipe says or where they are now
    sheet           contact sheets of samples
    worst           the hardest samples, as rows and as a sheet
    export          the curated data set, for other programs and for the next run
    export_files    its formats that are folders of images
    chosen          samples that an action is about
    expected        what becomes of a request that nobody has answered yet
    carry           decisions of one run for the next

Who may come in: `training`, `experiments`, `studio` and the commands. This room imports the ground floor, `config`,
`ledger`, and of `data` what needs no torch.
"""
