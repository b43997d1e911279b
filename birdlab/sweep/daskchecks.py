"""What a Dask cluster must be before a cell is sent: safe to reach, and its workers fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import birdlab
from birdlab.errors import LabError
from birdlab.sweep.slots import Inventory

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def worker_inventory(
    address: str, resources: Mapping[str, float], answer: Any, cells_per_gpu: int
) -> Inventory:
    """What cells may use of a Dask worker: the resources it declares.

    Raises LabError for a worker without birdlab or with another one, that does not see the lab,
    that declares no cores, or not the GPUs it sees.
    """

    def refuse(what: str, fix: str, got: object = None) -> LabError:
        return LabError(f"a Dask worker {what}", where=address, got=got, fix=fix)

    if isinstance(answer, BaseException):
        raise refuse("cannot run birdlab", "install birdlab where it runs", repr(answer))
    if answer["version"] != birdlab.__version__:
        got = f"{answer['version']} there, {birdlab.__version__} here"
        raise refuse("has another version of birdlab", "install the same version", got)
    if not answer["lab"]:
        raise refuse("does not see the lab", "the lab must lie on a file system that all share")
    if resources.get("cores", 0) < 1:
        raise refuse("declares no cores", "start it with --resources cores=4")
    n_gpus = int(resources.get("GPU", 0))
    if n_gpus and n_gpus != answer["gpus"]:
        got = f"GPU={n_gpus}, and {answer['gpus']} are visible to it"
        raise refuse(
            "declares other GPUs than it sees", "set CUDA_VISIBLE_DEVICES where it starts", got
        )
    gpus = tuple(str(number) for number in range(n_gpus))
    return Inventory(int(resources["cores"]), gpus, cells_per_gpu)


def check_address(address: str, *, insecure: bool) -> Any:
    """The security to connect to a scheduler with; None where nothing needs protection.

    Raises LabError for a scheduler on another machine without TLS, unless `insecure`, and for
    TLS without the files that it needs: whoever reaches a scheduler can run code on its workers.
    """
    parts = urlsplit(address)
    if parts.scheme == "tls":
        from distributed.security import Security

        security = Security(require_encryption=True)
        if not (security.tls_ca_file and security.tls_client_cert and security.tls_client_key):
            raise LabError(
                "TLS needs a certificate of the client and of its authority",
                where=address,
                expected="DASK_DISTRIBUTED__COMM__TLS__CA_FILE, "
                "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT and __KEY, or Dask's configuration file",
                fix="see docs/cluster.md",
            )
        return security
    if parts.scheme != "tcp" or not parts.hostname:
        raise LabError(
            "this is no address of a Dask scheduler",
            got=address,
            expected="tcp://127.0.0.1:8786 or tls://host:8786",
        )
    if parts.hostname not in _LOOPBACK and not insecure:
        raise LabError(
            "a scheduler on another machine needs TLS: whoever reaches it can run code there",
            where=address,
            fix="use tls:// (docs/cluster.md), or --insecure in a network you trust",
        )
    return None
