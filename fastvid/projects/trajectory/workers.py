"""The workers, and which models a run trains: what they are supervised with, on which features."""

from dataclasses import dataclass
from typing import Literal

Term = Literal["attention", "contrastive", "duration"]


@dataclass(frozen=True)
class Worker:
    """One way of training.

    Attributes:
        summary: in a few words, for pages.
        term: what it adds to the loss, or None.
        frozen: whether it uses the frozen features (``--pretrained``) instead of the plain ones
            (``--tokens.features``).
    """

    summary: str
    term: Term | None
    frozen: bool = False


WORKERS = {
    "attention": Worker("attention supervised, plain features", "attention"),
    "pretrained": Worker("attention not supervised, frozen features", None, frozen=True),
    "unsupervised": Worker("attention not supervised, plain features", None),
    "contrastive": Worker("tracks of one kind drawn together, plain features", "contrastive"),
    "duration": Worker("predicts how long each track lasts, plain features", "duration"),
}


@dataclass(frozen=True)
class Model:
    """One model that a run trains.

    Attributes:
        name: name of its stage.
        term: what is added to its loss, or None.
        features: what its tokens have.
        seed: added to the run's seed.
        shuffled: whether its training labels are shuffled.
        role: "worker", "2 x 2" (a cell that no worker is), or "control".
    """

    name: str
    term: Term | None
    features: str
    seed: int = 0
    shuffled: bool = False
    role: Literal["worker", "2 x 2", "control"] = "worker"

    @property
    def supervised(self) -> bool:
        """Return whether its attention is supervised."""
        return self.term == "attention"


def worker_names(text: str) -> list[str]:
    """Return the names in a list such as ``attention,pretrained``.

    Raises:
        ValueError: one is unknown or named twice, or there is none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in WORKERS:
            raise ValueError(f"workers: there is no worker {name!r}; choose from {', '.join(WORKERS)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"workers: name each worker once, such as attention,pretrained; got {text!r}")
    return names


def models_of(workers: str, plain: str, frozen: str, controls: bool) -> list[Model]:
    """Return the models of a run, in the order in which they are trained.

    The workers come first. Then the cells of the 2 x 2 of features and supervision which no worker is: the workers
    ``attention`` and ``pretrained`` differ in both, so that a difference between them could be due to either. Then the
    controls: labels that say nothing, and the supervised worker with another seed.

    Args:
        workers: names, separated by commas.
        plain: features of the workers that train without frozen ones.
        frozen: features of the worker ``pretrained``.
        controls: whether to train the cells and the controls as well.

    Raises:
        ValueError: an unknown worker, or a 2 x 2 of the same features twice.
    """
    if plain == frozen and controls:
        raise ValueError(
            f"the 2 x 2 compares two kinds of features, and both are {plain!r}: give another --pretrained or "
            "--tokens.features, or --controls False"
        )
    models = [
        Model(name, WORKERS[name].term, frozen if WORKERS[name].frozen else plain) for name in worker_names(workers)
    ]
    if not controls:
        return models
    for term in ("attention", None):
        for features in (plain, frozen):
            if not any((model.term, model.features) == (term, features) for model in models):
                name = f"{'supervised' if term else 'unsupervised'}-{features}"
                models.append(Model(name, term, features, role="2 x 2"))
    models.append(Model("label-shuffle", "attention", plain, shuffled=True, role="control"))
    models.append(Model("other-seed", "attention", plain, seed=1_000_003, role="control"))
    return models
