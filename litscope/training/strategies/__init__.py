"""Several devices that share one network.

    combinations      what a sharded network does not go together with, refused before anything is made
    sharding          which parts are gathered one at a time, and the network divided into them
    sharded_strategy  Lightning's strategy for it: what is saved and loaded is whole, whoever writes or reads

Who may come in: `training`.
"""
