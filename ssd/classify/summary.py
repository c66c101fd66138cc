"""The layers of a classifier with their places, and what of them is trained."""

from dataclasses import dataclass
from pathlib import Path

from ssd.backend import keras
from ssd.classify.network import build_classifier, layer_groups
from ssd.classify.run import load_classifier
from ssd.classify.spec import Network
from ssd.stages import choose_layers, freeze_all_but


@dataclass(frozen=True)
class Summary:
    """A row a layer, and the counts of all."""

    rows: tuple[tuple[int, str, str, tuple, int, str], ...]  # place, name, kind, shape, parameters, state
    trained: int
    frozen: int


def summary_of(
    path: str | Path | None, network: Network | None, classes: int, freeze: str | None = None
) -> Summary:
    """The layers of a stored classifier, or of one that is built.

    Args:
        path: a run folder or a checkpoint; None: `network` is built, without memory for its weights.
        network: what to build.
        classes: how many.
        freeze: layers that are not trained, in the words of a stage.
    Raises:
        ValueError: as `load_classifier`, `build_classifier` and `choose_layers`.
    """
    if path is not None:
        return _summary(load_classifier(path)[0], freeze)
    with keras.StatelessScope(initialize_variables=False):
        outputs = network.outputs(tuple(map(str, range(classes))))
        return _summary(build_classifier(network, outputs), freeze)


def summary_text(summary: Summary) -> str:
    """The table for a terminal."""
    wide = max(len(name) for _, name, *_ in summary.rows)
    lines = [f"{'place':>5}  {'layer':<{wide}}  {'kind':<22} {'output':<18} {'parameters':>12}"]
    for place, name, kind, shape, count, state in summary.rows:
        size = "x".join(str(side) for side in shape)
        numbers = f"{count:12,}  {state}" if count else ""
        lines.append(f"{place:>5}  {name:<{wide}}  {kind:<22} {size:<18} {numbers}".rstrip())
    total = summary.trained + summary.frozen
    return "\n".join(
        [*lines, f"{total:,} parameters: {summary.trained:,} trained, {summary.frozen:,} frozen"]
    )


def _summary(model: keras.Model, freeze: str | None) -> Summary:
    names = {layer.name for layer in model.layers if layer.weights}
    held = choose_layers(model, freeze, set(), "--freeze", layer_groups(model)) if freeze else set()
    trained, frozen = freeze_all_but(model, names - held)
    rows = [
        (
            place,
            layer.name,
            type(layer).__name__,
            tuple(layer.output.shape[1:]),
            layer.count_params(),
            "" if not layer.weights else "frozen" if layer.name in held else "trained",
        )
        for place, layer in enumerate(model.layers)
    ]
    return Summary(tuple(rows), trained, frozen)
