"""Trajectory: which objects of a video persist, by a transformer whose attention is supervised and measured.

    tokens:    the objects of all videos, found, followed, cropped, and turned into features, once
    training:  each worker in turn, then the rest of the 2 x 2 of features and supervision, then the controls
    measures:  answers, attention, early decisions and deletions on the test videos; files, pictures, report

``python -m fastvid.train trajectory`` runs all of it on generated videos.
"""

import logging
import time
from collections.abc import Sequence
from functools import partial

import torch

from fastvid.command import user_errors
from fastvid.data import LoaderState
from fastvid.projects.trajectory.batches import Draws, TokenLoader, shuffle_labels, targets_of
from fastvid.projects.trajectory.config import TrajectoryConfig
from fastvid.projects.trajectory.loss import TrajectoryLoss
from fastvid.projects.trajectory.measures import flat_scores, mean_loss, scores
from fastvid.projects.trajectory.model import TrajectoryModel
from fastvid.projects.trajectory.predictions import Predictor
from fastvid.projects.trajectory.progress_files import write_progress
from fastvid.projects.trajectory.recipe_files import EFFICIENCY, RESULT
from fastvid.projects.trajectory.results import Results, in_words
from fastvid.projects.trajectory.run_tokens import RunTokens
from fastvid.projects.trajectory.stop import why_stop
from fastvid.projects.trajectory.track_table import TrackTable
from fastvid.projects.trajectory.videos import class_names
from fastvid.projects.trajectory.workers import Model, models_of
from fastvid.train.loader import Loader
from fastvid.train.optim import OptimConfig, limit_epochs
from fastvid.train.session import Session
from fastvid.train.stage import Stage

log = logging.getLogger(__name__)


def run(session: Session, config: TrajectoryConfig) -> None:
    """Run the whole recipe, continuing where the run directory says it stopped."""
    world, device = session.world, session.world.device

    # All that a wrong option can break comes first: `session.begin` makes the run's directory.
    with user_errors(ValueError, OSError):
        models = models_of(config.workers, config.tokens.features, config.pretrained, config.controls)
        config.optim.check_processes(world.size)
        started = time.perf_counter()
        tokens = RunTokens(config, models, device)
        seconds = time.perf_counter() - started
    videos = len(tokens.of(models[0], "train"))
    optim = limit_epochs(config.optim, videos)
    session.begin()

    engine = session.engine({model.name: optim.steps for model in models})
    predictor = partial(Predictor, task=config.task, batch=config.measure.batch, device=device, cast=engine.cast)
    results = None
    if session.run is not None:
        results = Results(session.run, config, models, tokens, predictor, device)
    for model in models:
        module = new_model(config, tokens, model).to(device)
        engine.train(make_stage(session, config, tokens, models, model, optim, predictor(module)))
        if results is not None:
            results.measure(model, module)
    if results is not None:
        untrained = new_model(config, tokens, models[0]).to(device)
        steps = {model.name: max(engine.checkpoints.steps(model.name), default=0) for model in models}
        training = {"steps": steps, "epoch_steps": epoch_steps(optim, videos), "token_seconds": seconds}
        results.write(untrained, training)
    engine.close()


def new_model(config: TrajectoryConfig, tokens: RunTokens, model: Model) -> TrajectoryModel:
    """Return a model as it is before its first step, on the CPU."""
    torch.manual_seed(config.run.seed + model.seed)
    return TrajectoryModel(config.model, tokens.of(model, "train").dim, len(class_names(config.task)))


def epoch_steps(optim: OptimConfig, videos: int) -> int:
    """Return the optimizer updates of an epoch."""
    return max(1, round(videos / optim.batch))


def make_stage(
    session: Session,
    config: TrajectoryConfig,
    tokens: RunTokens,
    models: Sequence[Model],
    model: Model,
    optim: OptimConfig,
    predict: Predictor,
) -> Stage:
    """Return the stage that trains one of the models: it is validated after each epoch, and may end early.

    Args:
        session: of the run.
        config: configuration of the run.
        tokens: tokens of the run.
        models: all models, for the files that say how the run stands.
        model: the one to train.
        optim: how it is trained.
        predict: the module to train, and how it is run.
    """
    world, supervision, seed = session.world, config.supervision, config.run.seed + model.seed
    train, val = tokens.of(model, "train"), tokens.of(model, "val")
    epoch = epoch_steps(optim, len(train))
    if model.shuffled:
        train = shuffle_labels(train, config.task, seed)
    draws, table = Draws(seed, supervision.prefix, supervision.curriculum_epochs), TrackTable.from_tokens(val)

    def loader(state: LoaderState) -> Loader:
        return TokenLoader(
            train, config.task, draws, batch=optim.micro_batch, state=state, rank=world.rank, world=world.size,
            device=world.device,
        )  # fmt: skip

    def evaluate(step: int) -> dict[str, float]:
        said = predict(val, table)
        found = scores(val, table, said, config.task)
        log.info("%s, epoch %.3g, validation: %s", model.name, step / epoch, in_words(found))
        values = {
            "epochs": step / epoch, "max_epochs": optim.steps / epoch,
            "val_loss": mean_loss(said, table, targets_of(val, config.task)), **flat_scores(found),
        }  # fmt: skip
        write_progress(session.path, models, config.stop, {"stage": model.name, "step": step, **values})
        return values

    def stop(step: int, values: dict[str, float]) -> str | None:
        return why_stop(config.stop, step, epoch, values)

    warmup = supervision.warmup_epochs * epoch * optim.accumulate
    results = [f"model-{model.name}", RESULT, EFFICIENCY, *(["model"] if model == models[0] else [])]
    return Stage(
        model.name, predict.model, TrajectoryLoss(model.term, supervision, warmup), optim, loader, evaluate, epoch,
        stop=stop if config.stop.every else None, results=results, compile=config.run.compile,
    )  # fmt: skip
