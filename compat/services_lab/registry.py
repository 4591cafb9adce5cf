"""Finds the experiments: every module of `experiments/`, each of which ends in `EXPERIMENT = …`."""

import pkgutil
from importlib import import_module

from services_lab import experiments
from services_lab.experiment import Experiment, Family

ORDER = list(Family)


def names() -> list[str]:
    """Return the names of all experiments, without importing them."""
    return [each.name.replace("_", "-") for each in pkgutil.iter_modules(experiments.__path__)]


def load(name: str) -> Experiment:
    """Return the experiment `name`, one of `names()`.

    Raises:
        ValueError: It is not named like its file.
    """
    module = import_module(f"{experiments.__name__}.{name.replace('-', '_')}")
    experiment: Experiment = module.EXPERIMENT
    if experiment.name != name:
        raise ValueError(f"{module.__file__} has the experiment {experiment.name!r}")
    return experiment


def load_all() -> tuple[Experiment, ...]:
    """Return every experiment: by family, then by name."""
    return tuple(sorted(map(load, names()), key=lambda each: (ORDER.index(each.family), each.name)))
