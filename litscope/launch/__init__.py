"""The processes of a run: one for each device.

    workers    starts the other processes of this machine, and ends them

Who may come in: `training`.
"""
