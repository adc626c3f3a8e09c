"""What the search tries: engines × precisions × compressions, each with why it cannot be tried here, if so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

from lnmt.errors import LnmtError
from lnmt.optimization.backends import BACKENDS
from lnmt.optimization.candidate import REFERENCE, Candidate
from lnmt.optimization.compressions import COMPRESSIONS, Compression, GraphCompression
from lnmt.params import EngineSettings, OptimizeParams, Plugin
from lnmt.runtime.capabilities import Capabilities
from lnmt.text.processors import make

WHERE = "params.yaml: optimize"
STREAMING = ("onnxruntime", "openvino")  # engines that work on several calls, or groups of a call, side by side


def list_candidates(options: OptimizeParams) -> list[Candidate]:
    """The reference first and always; then the weights as trained on every engine; then each recipe.

    Pairs of a recipe and an engine that does not run it are left out. Raises UnknownName for an engine or a
    compression that no table has, LnmtError for options that one does not take, or a recipe in a wrong order.
    """
    for engine in options.engines:
        BACKENDS.get(engine, where=f"{WHERE}.engines")
    recipes: list[Sequence[Plugin]] = [(), *options.compressions]
    made = [[make_compression(plugin) for plugin in recipe] for recipe in recipes]
    for recipe, compressions in zip(recipes, made, strict=True):
        _check_order(recipe, compressions)
    asked = [
        Candidate(engine, precision, tuple(recipe))
        for (recipe, compressions), engine, precision in product(
            zip(recipes, made, strict=True), options.engines, options.precisions
        )
        if runs(engine, compressions)
    ]
    return list({candidate.name: candidate for candidate in (REFERENCE, *asked)}.values())


def runs(engine: str, compressions: Sequence[Compression]) -> bool:
    """Whether `engine` can run what these compressions make: of weights always, of a graph where it says so."""
    return all(not isinstance(one, GraphCompression) or engine in one.engines for one in compressions)


def make_compression(plugin: Plugin) -> Compression:
    """The compression that `plugin` names, with its options."""
    where = f"{WHERE}.compressions"
    kind: Callable[..., Compression] = COMPRESSIONS.get(plugin.name, where=where)
    return make(kind, plugin, where=where)


def split_recipe(candidate: Candidate) -> tuple[tuple[Plugin, ...], Plugin | None]:
    """What changes the weights, in order, and what changes the graph afterwards, if anything does."""
    recipe = candidate.compressions
    if recipe and isinstance(make_compression(recipe[-1]), GraphCompression):
        return recipe[:-1], recipe[-1]
    return recipe, None


def why_not(candidate: Candidate, machine: Capabilities) -> str | None:
    """Why this machine cannot run it; None where it can."""
    reason = machine.why_not(candidate.engine, candidate.precision)
    return None if reason is None else f"not on this machine: {reason}"


def settings_of(candidate: Candidate, settings: EngineSettings, largest: int) -> Iterator[Candidate]:
    """`candidate` with every combination of settings that its engine knows and that changes anything, itself left out.

    A batch of `largest` rows is the largest that is timed: groups of as many change nothing. Streams are work side by
    side: a call has something to share among them only where it is cut into groups.
    """
    streams = settings.streams if candidate.engine in STREAMING else [1]
    for count, rows in product(streams, settings.group_rows):
        if rows is not None and rows < largest:
            yield candidate.with_settings({"group_rows": rows, **({"streams": count} if count > 1 else {})})


def _check_order(recipe: Sequence[Plugin], compressions: Sequence[Compression]) -> None:
    for plugin, compression in zip(recipe[:-1], compressions[:-1], strict=True):
        if isinstance(compression, GraphCompression):
            raise LnmtError(
                "a compression of the graph comes last in its recipe, and once",
                where=f"{WHERE}.compressions",
                value=[plugin.name for plugin in recipe],
                fix=f"put {plugin.name!r} at the end",
            )
