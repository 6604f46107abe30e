"""Fine-tuning of V-JEPA 2 video classifiers (arXiv 2506.09985) by head, pooler, LoRA, or all of them.

    features:          what the frozen parts make of each view, computed once
    stage "finetune":  what the approach trains; the weights of the best validated epoch are kept
    test, report:      of those weights

``python -m fastvid.train vjepa2`` does all of it on the demo data set.
"""

import logging
from dataclasses import asdict, replace

from fastvid.command import user_errors
from fastvid.data import EvaluationDraws, LoaderState, ViewDraws
from fastvid.data.splits.split import labels_of
from fastvid.data.worker_pool import most_threads
from fastvid.eval.classifier import Evaluation, EvaluationData, Inference
from fastvid.latents import LatentLoader, LatentStore
from fastvid.latents.compute import TrainingDraws
from fastvid.latents.features import FeatureSet
from fastvid.projects.vjepa2.approach import apply_approach
from fastvid.projects.vjepa2.checkpoint import frozen_hash, save_classifier
from fastvid.projects.vjepa2.config import VJepa2Config
from fastvid.projects.vjepa2.features import frozen_part, make_stores
from fastvid.projects.vjepa2.load import drawn_from, load_vjepa2
from fastvid.projects.vjepa2.loss import ClassifierLoss
from fastvid.projects.vjepa2.lost_classes import LostClasses
from fastvid.projects.vjepa2.metadata import ClassifierMetadata
from fastvid.projects.vjepa2.model import VJepa2Classifier
from fastvid.projects.vjepa2.pictures import mistakes, training_views
from fastvid.projects.vjepa2.result import RESULTS, STAGE, Tested, make_result
from fastvid.report.confusion import confusion_csv, confusion_png
from fastvid.report.records import RunRecords
from fastvid.train.data import check_data, epoch_sampler, open_quarantine, train_loader
from fastvid.train.decoder import choose_decoder
from fastvid.train.distributed import broadcast_text
from fastvid.train.labelled import open_labelled
from fastvid.train.loader import Loader
from fastvid.train.optim import limit_epochs
from fastvid.train.session import Session, UserError
from fastvid.train.stage import Stage

log = logging.getLogger(__name__)


def run(session: Session, config: VJepa2Config) -> None:
    """Run the whole recipe, continuing where the run directory says it stopped."""
    world, device = session.world, session.world.device

    # All that a wrong option can break comes first: `session.begin` makes the run's directory.
    data = open_labelled(config.data, config.demo, config.run.seed)
    check_data(session, data.whole)
    videos = len(data.train.samples)
    config = replace(config, optim=limit_epochs(config.optim, videos))
    micro_batch = config.optim.micro_batch
    decoder = choose_decoder(session, config.data, data.train, data.views)
    with user_errors(ValueError, OSError):
        config.optim.check_processes(world.size)
        model = make_model(config, data.classes).to(device)
        augment = config.augment.augment(config.features.seed)
        training_draws = TrainingDraws(data.views, config.features.seed, config.features.views, data.no_flip, augment)
        evaluation_views = replace(data.views, crop=config.evaluate.crop)
        evaluation_draws = EvaluationDraws(evaluation_views, config.evaluate.clips, config.evaluate.crops)
    frozen = frozen_hash(model)
    compare_with_start(session, config, frozen)
    session.begin()

    quarantine = open_quarantine(session, config.data)
    engine = session.engine({STAGE: config.optim.steps})
    if is_tested(session, config):
        log.info("this run is finished and tested already: see result.json")
        engine.close()
        return

    # What the frozen parts make of each view, unless the encoder trains or there is no room for it.
    stores: dict[str, LatentStore] = {}
    if not model.backbone_trains:
        # Runs that share a folder differ in the videos that they train on: it has the features of all of them.
        training = data.train if config.features.dir is None else data.pool
        sets = [
            FeatureSet("train", training, training_draws),
            FeatureSet("val", data.val, evaluation_draws),
            FeatureSet("test", data.test, evaluation_draws),
        ]
        stores = make_stores(session, config, frozen_part(model), sets, engine.precision, quarantine)
    lost_classes = LostClasses(data, stores, quarantine)
    if stores:
        lost_classes.name("train", "val", "test")
    if session.run is not None:
        path = session.path / "pictures" / "training-views.png"
        # Without features each epoch draws views of its own.
        shown = training_draws if stores else replace(training_draws, seed=config.run.seed, count=2)
        training_views(path, data.train, shown, evaluation_draws)

    # Train, and validate after each epoch.
    threads = config.data.threads or most_threads()
    inference = Inference(device, engine.cast, config.features.batch, session.signals.check)
    # A request to stop waits for the end of a validation: the step before it is to be saved.
    val_data = EvaluationData(data.val, evaluation_draws, stores.get("val"), threads, quarantine)
    validate = Evaluation(model, val_data, data.classes, replace(inference, check=lambda: None))

    def validated(step: int) -> dict[str, float]:
        result = validate()
        lost_classes.name("train", "val")
        log.info("epoch %.3g: validation %s", step * config.optim.batch / videos, result.accuracy)
        return {"val_accuracy": result.accuracy.value, "val_loss": result.nll}

    def loader(state: LoaderState) -> Loader:
        if "train" in stores:
            return LatentLoader.from_store(
                stores["train"], labels_of(data.train), batch=micro_batch, seed=config.run.seed, state=state,
                rank=world.rank, world=world.size, device=device,
            )  # fmt: skip
        draws = ViewDraws(data.views, config.run.seed, no_flip=data.no_flip)
        sampler = epoch_sampler(session, config.data, data.train, batch=micro_batch, state=state)
        return train_loader(session, config.data, data.train, draws, sampler, decoder=decoder, quarantine=quarantine)

    pooled = not model.pooler_trains
    loss = ClassifierLoss(data.classes, config.augment, augment, config.run.seed, pooled=pooled)
    epoch = max(1, round(videos / config.optim.batch))
    stage = Stage(
        STAGE, model, loss, config.optim, loader, validated, epoch, keep_best="val_accuracy", results=RESULTS,
        compile=config.run.compile,
    )  # fmt: skip
    engine.train(stage)

    # Test the weights of the best epoch.
    run = session.run
    if run is not None:
        if run.read_json("result.json") is not None:  # of a test that was made otherwise
            for name in RESULTS:
                run.set_aside(name)
        best = engine.checkpoints.load_best(STAGE, model)
        test_data = EvaluationData(data.test, evaluation_draws, stores.get("test"), threads, quarantine)
        evaluation = Evaluation(model, test_data, data.classes, inference)
        val = validate()
        test = replace(evaluation(), inference_ms_per_clip=evaluation.milliseconds())
        lost_classes.name("train", "test")
        log.info("tested with the weights of step %d:\n%s", best, test.table())
        save_classifier(run.path / "classifier", model, metadata(config, data.classes, evaluation_draws, frozen))
        confusion_csv(run.path / "confusion.csv", test.classes, test.confusion)
        confusion_png(run.path / "pictures" / "confusion.png", test.classes, test.confusion)
        mistakes(run.path / "pictures" / "mistakes.png", data.test, test, evaluation_draws)
        tested = Tested(best, val, test, engine.precision)
        run.write_json("result.json", make_result(config, data, model, RunRecords.read(run.path), tested))
    engine.close()


def make_model(config: VJepa2Config, classes: list[str]) -> VJepa2Classifier:
    """Open the classifier, and freeze what the approach does not train."""
    model = load_vjepa2(
        config.model.source, classes=classes, frames=config.data.frames, size=config.data.size,
        init=config.model.init, init_seed=config.model.init_seed, head_seed=config.run.seed,
        keep_head=config.model.keep_head,
    )  # fmt: skip
    with drawn_from(config.run.seed):  # the adapters
        apply_approach(model, config.approach, config.lora)
    model.checkpointing = config.model.checkpointing
    return model


def compare_with_start(session: Session, config: VJepa2Config, frozen: str) -> None:
    """Check that a resumed run has the approach and the frozen weights it began with: checkpoints do not hold these.

    Raises:
        UserError: it has others.
    """
    before = {} if session.run is None else session.run.metadata()
    approach = before.get("approach", config.approach)
    if approach != config.approach:
        raise UserError(f"this run trains with the approach {approach}; for {config.approach} begin a new run")
    if before.get("frozen", frozen) != frozen:
        raise UserError(
            f"the frozen weights of {config.model.source} are not those that this run began with: restore them, or "
            "begin a new run"
        )
    session.record(approach=approach, frozen=frozen)


def is_tested(session: Session, config: VJepa2Config) -> bool:
    """Return whether the best weights after all steps have already been tested with this configuration."""
    answer = "no"
    found = None if session.run is None else session.run.read_json("result.json")
    if found is not None and found["optim"]["steps"] == config.optim.steps:
        answer = "yes" if found["evaluate"] == asdict(config.evaluate) else "no"
    return broadcast_text(session.world, answer) == "yes"


def metadata(config: VJepa2Config, classes: list[str], draws: EvaluationDraws, frozen: str) -> ClassifierMetadata:
    """Return what is saved beside the trained weights."""
    model = config.model
    return ClassifierMetadata(
        source="tiny" if model.init == "tiny" else model.source, classes=tuple(classes), init=model.init,
        init_seed=model.init_seed, views=draws.spec, clips=draws.clips, crops=draws.crops, frozen=frozen,
    )  # fmt: skip
