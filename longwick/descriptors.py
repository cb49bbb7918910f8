"""How many files a tier may have open at once: each stream, and each way to a CLI, is one or more of them."""

import resource

ENOUGH = 65_536


def raise_limit() -> None:
    """Let this process, and what it starts, have as many open as the system allows; more than enough is no use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
