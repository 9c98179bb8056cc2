"""Where bytes lie: folders and object stores, under one interface. No torch.

    urls      addresses: what they may be, and their parts
    store     files and objects by their address: list, size, read a part, put
    listed    what lies in a bucket, and whose credentials are asked for
    retries   reads that wait for a server, and say so
    cache     parts of remote files on this machine's disk, within a limit

Who may come in: `data`, and rooms that may import it. This room imports the ground floor, and of
`data` the digests.
"""
