"""Files that lie anywhere: in a folder, behind http, in S3 or Google's storage. No torch.

    urls      addresses: several in one by braces, and what may be named

Who may come in: `data`, and rooms that may import it. This room imports the ground floor.
"""
