"""What a run came to: curves, bytes, energy and events as tables, weights as arrays."""

import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import TinyMetaFedError
from ..experiments import exporting, model_source
from ..experiments.experiment import Experiment
from ..federation.client import Client
from ..models.network import Network
from ..nodes.events import FIRMWARE_FAULTS
from ..plugins import blaming
from ..report import described
from ..results.rows import ClassCount, DeviceEvaluation, Event, Judged, NodeRound, columns_of
from ..results.store import Entry, Run, Store
from ..tasks.samples import Samples, as_inputs
from .outside import outside_loop

if TYPE_CHECKING:
    from pandas import DataFrame

Weights = dict[str, NDArray[np.float32]]


class Result:
    """A run in a store, as far as it is done. It is read anew each time something is asked for, so
    that a run that goes on meanwhile has more of it.

    Attributes:
        folder: of the store. id: the run's number.

    Raises TinyMetaFedError where there is no such run, as all of it does where the store cannot be
    read. Tables are pandas' (`pip install 'tinymetafed[pandas]'`).
    """

    def __init__(self, folder: Path, run: int | str = "last") -> None:
        self.folder = folder
        with self._store() as store:
            self.id = store.run(str(run)).id

    def __repr__(self) -> str:
        run = self._run
        return f"<Result of run {run.id}, {run.name}: {run.done} of {run.rounds} rounds>"

    @contextmanager
    def _store(self) -> Iterator[Store]:
        store = Store(self.folder, read_only=True)
        try:
            yield store
        finally:
            store.close()

    @property
    def _run(self) -> Run:
        with self._store() as store:
            return store.run(str(self.id))

    @property
    def name(self) -> str:
        """Of its experiment, or what it was renamed to."""
        return self._run.name

    @property
    def tags(self) -> list[str]:
        """What it is tagged with, in alphabetical order."""
        with self._store() as store:
            return list(store.labels_of(self.id).tags)

    @property
    def note(self) -> str:
        """What is written down of it; empty where nothing is."""
        with self._store() as store:
            return store.labels_of(self.id).note

    @property
    def done(self) -> int:
        """Rounds in the store."""
        return self._run.done

    @property
    def rounds(self) -> int:
        """Rounds to do."""
        return self._run.rounds

    @property
    def experiment(self) -> Experiment:
        """The settings. Raises TinyMetaFedError where this version cannot read them."""
        with blaming():
            return described.settings(self._run)

    @property
    def versions(self) -> dict[str, str]:
        """Of what it depended on: packages, emulators, data, users' classes."""
        return json.loads(self._run.versions)

    @property
    def sources(self) -> dict[str, str]:
        """The text of users' classes as it was, by file or module."""
        with self._store() as store:
            return store.sources(self.id)

    # ---- tables -----------------------------------------------------------------------------

    @property
    def learning_curve(self) -> "DataFrame":
        """By `round` (0 is before training): devices, diverged, and the means over those that did
        not diverge of loss_before, loss_after, accuracy_before, accuracy_after; before and after
        adaptation of the devices for validation. Accuracies are 0 to 1, NaN where there are no
        classes. Of a run without devices for validation, as those of earlier
        versions are: of the unseen ones; `part` says which."""
        return self._judged(lambda store: store.learning(self.id))

    @property
    def final(self) -> "DataFrame":
        """The same of the unseen devices, which are judged once, after the last round; a row more
        where more rounds were added to the run, none before it is done."""
        return self._judged(lambda store: store.judged(self.id, "unseen"))

    def _judged(self, read: Callable[[Store], list[Judged]]) -> "DataFrame":
        with self._store() as store:
            rows = read(store)
            return self._without_classes(store, rows, frame(Judged, rows, "round"))

    @property
    def evaluations(self) -> "DataFrame":
        """Both by `round` and `device`, each with its `part`, "validation" or "unseen"; NaN where
        adaptation diverged."""
        with self._store() as store:
            rows = store.evaluations(self.id)
            found = frame(DeviceEvaluation, rows, "round", "device")
            return self._without_classes(store, rows, found)

    @property
    def classes(self) -> "DataFrame":
        """What each unseen device took its query samples for after adaptation, once after the last
        round: `samples` by `round`, `device`, `actual` and `predicted`, the names of the classes
        that they are of and that they were taken for; pairs without a sample are left out. Empty
        where there are no classes, before the run is done, and of runs of earlier versions."""
        with self._store() as store:
            rows = store.evaluations(self.id)
        found = frame(ClassCount, chain.from_iterable(row.classes for row in rows))
        for i, name in enumerate(("round", "device")):
            found.insert(i, name, [getattr(row, name) for row in rows for _ in row.classes])
        return found.set_index(["round", "device", "actual", "predicted"])

    def _without_classes(
        self, store: Store, rows: Sequence[Any], found: "DataFrame"
    ) -> "DataFrame":
        """The store has 0 where there is no accuracy."""
        if not described.describe(store, store.run(str(self.id))).classes(rows):
            found[["accuracy_before", "accuracy_after"]] = np.nan
        return found

    @property
    def bytes(self) -> "DataFrame":
        """By `round` (from 1) and `node`: device, bytes_down, bytes_up, bytes_sensor, and whether
        it was counted, late, diverged."""
        with self._store() as store:
            found = frame(NodeRound, store.node_rounds(self.id), "round", "node")
        return found.drop(columns=["sequence", "messages", "frames"])

    @property
    def energy(self) -> "DataFrame":
        """By `round`, `node` and `account` (a phase, the radio, sleep, …): seconds, joules, and
        low and high, joules by the shortest and the longest reading of cycles. Empty where nothing
        was counted, as on host nodes. Priced as the run's experiment says."""
        with self._store() as store:
            run = store.run(str(self.id))
            entries = described.describe(store, run).account(store, run).entries()
            return frame(Entry, entries, "round", "node", "account")

    @property
    def events(self) -> "DataFrame":
        """Faults, restarts, repeated frames and the like, in their order: round (NaN outside of
        rounds), node, device, kind, and text."""
        with self._store() as store:
            found = frame(Event, store.events(self.id))
        texts = [json.loads(detail).get("text", "") for detail in found.pop("detail")]
        found["text"] = texts
        return found

    @property
    def faults(self) -> "DataFrame":
        """Those events that are the firmware's own: faults, hangs, resets."""
        found = self.events
        own = [kind in FIRMWARE_FAULTS for kind in found["kind"]]
        return found.loc[own].reset_index(drop=True)

    # ---- weights ----------------------------------------------------------------------------

    @property
    def theta(self) -> NDArray[np.float32]:
        """The weights after the last round as nodes have them: float32 [parameters]."""
        return self._run.weights

    @property
    def weights(self) -> Weights:
        """The same by layer: "NAME.weight" and "NAME.bias", float32, shaped as
        `tinymetafed export` has them in an .npz: (outputs, inputs) of a dense layer, (filters,
        rows, columns, channels) of a convolution."""
        client, run = self._client()
        return _by_layer(client, run.weights)

    def adapt(
        self, device: int | None = None, *, inputs: ArrayLike | None = None,
        targets: ArrayLike | None = None,
    ) -> "Adapted":  # fmt: skip
        """Adapts on a host node to a device as an evaluation does: to an unseen one by its number,
        from 0, or to samples, inputs [n, …] with targets [n, outputs] or the numbers of classes
        [n]. Raises TinyMetaFedError, where it diverges too."""
        if (device is None) == (inputs is None) or (inputs is None) != (targets is None):
            raise TinyMetaFedError("adapt() takes either device or inputs and targets")
        client, run = self._client()
        if device is not None:
            unseen = client.settings.devices_of("unseen")
            if not 0 <= device < len(unseen):
                raise TinyMetaFedError(
                    f"device {device}: there are {len(unseen)} unseen ones, from 0"
                )
            with blaming():
                client.settings.task.prepare(client.settings.seed)
                support, query = client.never_seen(unseen[device])
        else:
            assert inputs is not None
            assert targets is not None
            support = Samples(np.asarray(inputs), np.asarray(targets))
            query = support[:0]
        who = "these samples" if device is None else f"device {device}"
        with blaming():
            theta = outside_loop(lambda: exporting.adapted(client, run.weights, support, who))
        return Adapted(client, theta, support, query)

    def predict(self, inputs: ArrayLike) -> NDArray[np.float32]:
        """What the network gives without adaptation; see Adapted.predict."""
        client, run = self._client()
        return _predicted(client, run.weights, inputs)

    def _client(self) -> tuple[Client, Run]:
        with self._store() as store, blaming():
            run = store.run(str(self.id))
            return Client(model_source.experiment_of(store, run)), run


class Adapted:
    """A network that has adapted to a device.

    Attributes:
        theta: its weights: float32 [parameters].
        support: what it has adapted to. query: further samples of an unseen device, else none.
    """

    def __init__(
        self,
        client: Client,
        theta: NDArray[np.float32],
        support: Samples,
        query: Samples,
    ) -> None:
        self._client = client
        self.theta = theta
        self.support, self.query = support, query

    @property
    def weights(self) -> Weights:
        """By layer, see Result.weights."""
        return _by_layer(self._client, self.theta)

    def predict(self, inputs: ArrayLike) -> NDArray[np.float32]:
        """What the firmware's core gives for inputs [n, …]: float32 [n, outputs]; of a classifier
        the scores before the softmax, so that argmax is the class; of one with a single output the
        class is 1 above zero. Raises TinyMetaFedError."""
        return _predicted(self._client, self.theta, inputs)


def _predicted(
    client: Client, theta: NDArray[np.float32], inputs: ArrayLike
) -> NDArray[np.float32]:
    values = as_inputs(inputs, client.model)
    return outside_loop(lambda: exporting.predicted(client, theta, values))


def _by_layer(client: Client, theta: NDArray[np.float32]) -> Weights:
    settings = client.settings
    shaped = settings.model.model_copy(update={"shape": settings.shape})
    found: Weights = {}
    for step in Network.of(shaped, client.model, theta, {}).steps:
        if step.w is not None and step.b is not None:
            found |= {f"{step.name}.weight": step.w, f"{step.name}.bias": step.b}
    return found


def frame(kind: Any, rows: Iterable[Any], *index: str) -> "DataFrame":
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        raise TinyMetaFedError(
            "pandas is not installed; pip install 'tinymetafed[pandas]'"
        ) from None
    columns = columns_of(kind)
    found = pandas.DataFrame([asdict(row) for row in rows], columns=columns)
    return found.set_index(list(index)) if index else found
