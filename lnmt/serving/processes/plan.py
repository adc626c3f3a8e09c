"""How a machine is shared out: processes and engine threads, as a function of its cores."""

from __future__ import annotations

from dataclasses import dataclass

CORES_OF_A_WORKER = 8


@dataclass(frozen=True)
class Plan:
    """Processes of the service, and threads of each one's engine."""

    workers: int
    threads: int


def plan(cores: int, *, workers: int | None = None, threads: int | None = None) -> Plan:
    """What runs on so many cores; what is given stays as given.

    As few workers as have at most 8 cores each: one engine on all cores sees all requests, and so makes the
    best batches; but one process answers no more than what one core can parse and tokenise, and matrix products
    of this size gain little from more than 8 threads. Streams are the bundle's, measured by `lnmt optimize`:
    the engine shares its threads among them.
    """
    workers = workers or -(-cores // CORES_OF_A_WORKER)
    return Plan(workers, threads or max(1, cores // workers))
