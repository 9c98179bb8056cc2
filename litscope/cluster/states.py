"""Where a job stands, and why it waits, in plain words.

Slurm's words are those of `squeue` (JOB REASON CODES in its manual, JOB STATE CODES there).
"""

from __future__ import annotations

OVER = frozenset(
    {
        *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL"),
        *("REVOKED", "PREEMPTED"),
    }
)
"""States that a job does not leave by itself."""

STATES = {
    "PENDING": "waits",
    "CONFIGURING": "its nodes start",
    "RUNNING": "runs",
    "COMPLETING": "ends",
    "SUSPENDED": "is suspended",
    "STOPPED": "is stopped",
    "REQUEUED": "goes back into the queue",
    "REQUEUE_HOLD": "is held in the queue",
    "SPECIAL_EXIT": "is held in the queue",
    "COMPLETED": "ended well",
    "FAILED": "failed",
    "CANCELLED": "was cancelled",
    "TIMEOUT": "reached its time limit",
    "NODE_FAIL": "lost a node",
    "OUT_OF_MEMORY": "ran out of memory",
    "PREEMPTED": "was preempted",
    "DEADLINE": "missed its deadline",
    "BOOT_FAIL": "its nodes did not start",
}

REASONS = {
    "Priority": "others are before it in the queue",
    "Resources": "it is next, as soon as enough is free",
    "Dependency": "it waits for another job",
    "DependencyNeverSatisfied": "it waits for a job that failed, so it will never start; cancel it",
    "BeginTime": "it may start at the time given; after a requeue that is two minutes later",
    "JobHeldUser": "you hold it: scontrol release JOB",
    "JobHeldAdmin": "the cluster's staff hold it; ask them",
    "JobArrayTaskLimit": "as many tasks of its array run as may at once",
    "ReqNodeNotAvail": "a node that it asks for is not available, for a reservation or maintenance perhaps",
    "Reservation": "its reservation has not begun",
    "Licenses": "it waits for a licence",
    "NodeDown": "a node that it needs is down",
    "PartitionDown": "its partition takes no jobs to run at present",
    "PartitionInactive": "its partition is not in use",
    "PartitionNodeLimit": "it asks for more nodes than its partition has or allows: it will never start",
    "PartitionTimeLimit": "it asks for more time than its partition allows: it will never start; give a shorter --time",
    "BadConstraints": "no node has what it asks for: it will never start",
    "AccountNotAllowed": "its account may not use this partition",
    "InvalidAccount": "its account does not exist",
    "InvalidQOS": "its quality of service does not exist",
    "QOSNotAllowed": "its quality of service is not allowed in this partition or account",
    "launch_failed_requeued_held": "it could not start on its node and is held: scontrol release JOB",
    "job_requeued_in_held_state": "it was put back into the queue and is held: scontrol release JOB",
    "TimeLimit": "its time was over",
    "NonZeroExitCode": "its command ended with an error; litscope logs RUN shows it",
    "NodeFail": "a node failed",
    "JobLaunchFailure": "its node could not start it; a folder that is not there on the node may be why",
    "RaisedSignal:9(Killed)": "it was killed",
    "Cleaning": "an earlier attempt of it is being cleared away",
}

LIMITS = (
    ("QOSMax", "your jobs have reached a limit of their quality of service"),
    ("QOSGrp", "the jobs of this quality of service have reached its limit"),
    ("QOSMin", "it asks for less than its quality of service demands"),
    ("AssocMax", "your jobs have reached a limit of their account"),
    ("AssocGrp", "the jobs of this account have reached its limit"),
    ("MaxCpuPerAccount", "the jobs of this account have reached its limit of cores"),
    ("MaxGRESPerAccount", "the jobs of this account have reached its limit of GPUs"),
)
"""How the names of limits begin, of which there are many (QOSMaxGRESPerUser)."""


def state_in_words(state: str) -> str:
    """A state for people; one that is not known here as Slurm calls it."""
    return STATES.get(state, state)


def reason_in_words(reason: str) -> str:
    """Why a job waits, or how it ended, for people, with Slurm's own word for whoever asks its staff.

    >>> reason_in_words("Priority")
    'others are before it in the queue (Priority)'
    """
    if not reason:
        return ""
    key = reason.partition(",")[0].replace(" ", "_")
    words = REASONS.get(key) or next((text for start, text in LIMITS if key.startswith(start)), None)
    return f"{words} ({reason})" if words else reason
