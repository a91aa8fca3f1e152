"""The devices and radios that a page can price a run for."""

from collections.abc import Iterable, Sequence
from itertools import product

from .. import settings
from ..energy import power
from ..energy.settings import DeviceName, Priced, RadioName
from ..experiments.experiment import Experiment

Price = tuple[str, str]
"""Device and radio, as they are shown."""

OWN: Price = ("as in the experiment", "")
"""Of a fleet whose nodes are not all priced alike."""


def own(experiment: Experiment) -> Price:
    """What the experiment itself says."""
    found = {(str(one.device), str(one.radio)) for _, one in experiment.priced}
    return found.pop() if len(found) == 1 else OWN


def choices(
    experiment: Experiment, devices: Sequence[DeviceName] = (), radios: Sequence[RadioName] = ()
) -> dict[Price, Priced]:
    """The experiment's own, then these devices by these radios, then those that come with the
    bench."""
    found: dict[Price, Priced] = {own(experiment): experiment.priced}
    mine = [one for _, one in experiment.priced]
    devices = (*devices, *(one.device for one in mine), *settings.names(power.FOLDER))
    radios = (*radios, *(one.radio for one in mine), *settings.names(power.FOLDER / "radios"))
    for device, radio in product(_distinct(devices), _distinct(radios)):
        changes = {"device": device, "radio": radio}
        priced = [(nodes, was.model_copy(update=changes)) for nodes, was in experiment.priced]
        found.setdefault((str(device), str(radio)), priced)
    return found


def _distinct(values: Iterable[DeviceName | RadioName]) -> list[DeviceName | RadioName]:
    return list({str(one): one for one in reversed([*values])}.values())[::-1]
