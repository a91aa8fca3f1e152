"""Where the model of an experiment comes from: its own layers, an ONNX file, or another run."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .. import plugins, settings
from ..errors import TinyMetaFedError
from ..federation.settings import FederationSettings
from ..models import importing
from ..models.importing import Vectors
from ..models.model import FirstWeights, Model, Origin
from ..places import STORE
from ..results.store import Run, Store


@dataclass(frozen=True)
class Source:
    """Weights of the first layers that have some; none where all are drawn. run: what they come
    from, where that is a run."""

    vectors: Vectors
    run: FederationSettings | None = None

    @property
    def model(self) -> Model | None:
        """The run's."""
        return self.run and self.run.built_model

    def has_seen_other_devices(self, experiment: FederationSettings) -> bool:
        """Whether the run may have learnt from devices that are not seen in the experiment: it
        splits the same data by another seed."""
        if self.run is None or self.run.seed == experiment.seed:
            return False
        one, other = (  # whatever is for validation of those that training does not see
            each.task.model_dump(exclude={"validation"}) for each in (self.run, experiment)
        )
        return one == other


class _Table(settings.Settings):
    model: Origin


def expand(tree: dict[str, Any], origin: str, folder: Path) -> tuple[dict[str, Any], Source]:
    """The experiment with all layers in its [model], and the weights of the first of them, or none.

    folder: of the experiment's file. Raises TinyMetaFedError that names `origin` and the key, or
    the file and its node.
    """
    table = tree.get("model")
    if not isinstance(table, dict):
        return tree, Source([])
    own = {key: table[key] for key in Origin.model_fields if key in table}
    given = settings.check(_Table, {"model": own}, origin).model
    try:
        _check(given, table)
        source = Source([])
        if given.file is not None:
            table, vectors = importing.from_file(given, table, folder / given.file)
            source = Source(vectors)
        if given.from_run is not None:
            table, source = _from_run(given, table)
    except ValueError as error:
        raise TinyMetaFedError(f"{origin}: model.{error}") from None
    return tree | {"model": table}, source


def _check(given: Origin, table: dict[str, Any]) -> None:
    """Raises ValueError that begins with the key of what does not fit."""
    if given.sha256 is not None:
        raise ValueError("sha256: a run's row has it; leave it out")
    if given.onnx is not None and given.tflite is not None:
        raise ValueError("tflite: there is model.onnx as well; leave out one")
    if given.file is None and given.weights is not None:
        raise ValueError("weights: there is no file that has some; give model.onnx")
    if given.from_run is not None and given.weights == "file":
        raise ValueError("from_run: the weights are to be the file's; set model.weights to 'none'")
    for key in ("local", "frozen"):
        if getattr(given, key) is None:
            continue
        if given.file is None and (given.from_run is None or "layers" in table):
            raise ValueError(
                f"{key}: these layers say it themselves, as {key} = true; leave it out"
            )


def _from_run(given: Origin, table: dict[str, Any]) -> tuple[dict[str, Any], Source]:
    """The table with the run's number, its layers where it has none, and the run's weights."""
    assert given.from_run is not None
    store = Store(STORE)
    run = store.named([str(given.from_run)])[-1]
    if run.done < run.rounds:
        raise ValueError(
            f"from_run: of run {run.id}, {run.done} of {run.rounds} rounds are done; 'tinymetafed "
            f"run --resume {run.id}' goes on"
        )
    before = experiment_of(store, run)
    if "layers" not in table:
        same = {"layers": importing.marked(before.model.layers, given), "loss": before.model.loss}
        table = same | {"shape": before.shape} | table
    model = before.built_model
    vectors = model.of_layers(run.weights)
    digest = hashlib.sha256(b"".join(one.astype("<f4").tobytes() for one in vectors))
    return table | {"from_run": run.id, "sha256": digest.hexdigest()}, Source(vectors, before)


def experiment_of(store: Store, run: Run) -> FederationSettings:
    """The federation that a run is of, with its frozen weights. Raises TinyMetaFedError."""
    from .experiment import Experiment

    plugins.check_unchanged(run.id, run.versions)
    try:
        experiment = Experiment.model_validate_json(run.settings)
    except ValidationError:
        raise TinyMetaFedError(
            f"run {run.id}: its experiment is another version's, or has a strategy or task that is "
            "not here"
        ) from None
    return experiment.starting_with(FirstWeights(backbone=store.backbone(run.id).tobytes()))


def first_weights(model: Model, source: Source) -> FirstWeights:
    """Of a model whose first layers have these. Raises ValueError that begins with the key of what
    does not fit."""
    if source.model is not None and _layers(source.model) != _layers(model):
        raise ValueError("model.from_run: the run has other layers; leave out those here")
    every = sorted((*model.parts, *model.backbone_parts), key=lambda part: part.layer)
    if any(part in model.backbone_parts for part in every[len(source.vectors) :]):
        raise ValueError(
            "model.layers: a frozen layer needs weights; they come with model.onnx or "
            "model.from_run"
        )
    return model.first_weights(source.vectors)


def _layers(model: Model) -> tuple[int, list[tuple[int, tuple[int, ...]]]]:
    """Whatever part they are of."""
    return model.inputs, [(layer.operation, layer.arguments) for layer in model.layers]
