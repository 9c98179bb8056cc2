"""Where bytes lie: folders and object stores, under one interface. No torch.

    urls      addresses: what they may be, and their parts
    store     files and objects by their address: list, size, read a part, put

Who may come in: `data`, and rooms that may import it. This room imports the ground floor only.
"""
