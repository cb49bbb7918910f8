"""Where a crash must lose nothing: the seams between two steps of which each is durable by itself.

A seam does nothing. The tests put a crash into one from outside (tests/crashing); nothing that is installed can.
"""

SEAMS = {
    "accepted": "a run is in the record, and nobody was told",
    "hinted": "a hint was sent",
    "claimed": "a worker has claimed a run",
    "spawn marked": "the record says that the CLI is started, and it is not",
    "spawned": "the CLI was started",
    "batch committed": "a group of events is in the record",
    "committed": "something is in the record, and not published",
    "bytes stored": "a file's bytes are in storage, and nothing lists them",
    "artifact committed": "an artifact is listed, and the CLI does not know",
    "cli ended": "the CLI has said its last word, and the record has not",
    "settling": "the log is whole, and the run not over",
    "settled": "the run is over in the record, and its CLI not yet gone",
    "recovering": "a worker is lost, and its run still its own",
    "launching": "`up` has its data dir, ports and Valkey, and no tier",
}
"""Each seam, and what is so when it is passed."""


def passed(name: str) -> None:
    """A process passes a seam."""
