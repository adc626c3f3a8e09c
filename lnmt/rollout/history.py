"""What a deployment's history tells: which bundles were live, and which champion came before."""

from __future__ import annotations

from collections.abc import Sequence

from lnmt.rollout.deployment import Deployment


def released(history: Sequence[Deployment]) -> frozenset[str]:
    """Digests of every bundle that was champion or challenger at some time."""
    live = {digest for state in history for digest in (state.champion, state.challenger)}
    return frozenset(digest for digest in live if digest is not None)


def previous_champion(history: Sequence[Deployment]) -> str | None:
    """The champion to go back to: the one before the present one that was not itself rolled back.

    A→B, back to A, then C: before C came A, and before A nothing, whatever B was.
    """
    champions: list[str] = []
    for state in history:
        if state.champion is None or (champions and champions[-1] == state.champion):
            continue
        if state.phase == "rolled back" and state.champion in champions:
            del champions[champions.index(state.champion) + 1 :]
        else:
            champions.append(state.champion)
    return champions[-2] if len(champions) > 1 else None
