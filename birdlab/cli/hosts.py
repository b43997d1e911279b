"""Which names a server of this machine answers to, and who else may read it."""

from __future__ import annotations

import sys

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")


def allowed_hosts(host: str, port: int) -> list[str]:
    """The Host headers that MLflow's server may take: this machine's, and that of `host`.

    MLflow's own list has patterns such as 192.168.*, which also fit 192.168.example.org, a name
    that anybody may let lead here (DNS rebinding). A server that listens everywhere is asked for
    under names that nobody knows here: it takes the addresses of this machine only, and its name.
    """
    names = [*LOOPBACK, host]
    if host in EVERYWHERE:
        names += _own_names()
    shown = [f"[{n}]" if ":" in n else n for n in dict.fromkeys(names)]
    return [one for n in shown for one in (n, f"{n}:{port}")]


def warn_of_host(host: str) -> None:
    """Say on standard error who can read a server that does not listen on this machine alone."""
    if host not in LOOPBACK:
        print(
            f"warning: everyone who reaches {host} can read this lab: there is no password. "
            "An SSH tunnel to 127.0.0.1 needs no --host.",
            file=sys.stderr,
        )


def _own_names() -> list[str]:
    """The name of this machine, and the addresses of its interfaces."""
    import socket

    import psutil

    families = (socket.AF_INET, socket.AF_INET6)
    found = [a for of_one in psutil.net_if_addrs().values() for a in of_one]
    addresses = sorted({a.address.partition("%")[0] for a in found if a.family in families})
    return [socket.gethostname(), *addresses]
