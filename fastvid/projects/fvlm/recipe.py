"""fVLM: a vision-language model that reads each frame through one glance, and says where it looked.

    stage "fine":    the model as it is used: every glance is aimed by the language model; the static glance of the
                     coarse pass is trained beside it
    stage "coarse":  a model of its own, whose static glance alone is trained: the fair opponent
    test, report:    both, on clips that nothing was chosen by; controls; where the glances went

``python -m fastvid.train fvlm`` runs all of it on the demo's clips.
"""

import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fastvid.command import user_errors
from fastvid.data import ChatFormat
from fastvid.projects.fvlm.config import FvlmConfig
from fastvid.projects.fvlm.controls import COARSE, FINE
from fastvid.projects.fvlm.data import Clips, FvlmData, open_data, texts
from fastvid.projects.fvlm.glyphs import CELL
from fastvid.projects.fvlm.loss import TextLoss, freeze_unused
from fastvid.projects.fvlm.mixture import check_decoder
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.model_config import Mode
from fastvid.projects.fvlm.open_model import open_model
from fastvid.projects.fvlm.recipe_files import MODEL, RESULTS
from fastvid.projects.fvlm.reconstruct import Reconstructor, latent_shape
from fastvid.projects.fvlm.reconstruct_loss import ReconstructLoss
from fastvid.projects.fvlm.saved import go_on
from fastvid.projects.fvlm.stored import check_latents, check_tokens
from fastvid.projects.fvlm.testing import Test
from fastvid.projects.fvlm.vae import make_latents, open_vae, with_vae
from fastvid.train.data import open_quarantine
from fastvid.train.decoder import choose_decoder
from fastvid.train.optim import OptimConfig, limit_epochs
from fastvid.train.session import Session
from fastvid.train.stage import Stage

log = logging.getLogger(__name__)

_APART = 1_000_003  # between the seeds of attempts, so that those of near runs differ


def run(session: Session, config: FvlmConfig) -> None:
    """Run the whole recipe, continuing where the run directory says it stopped."""
    world, device, mode = session.world, session.world.device, config.model.mode

    # All that a wrong option can break comes first: `session.begin` makes the run's directory.
    with user_errors(ValueError, OSError):
        for optim in (config.optim, config.coarse_optim):
            optim.check_processes(world.size)
    data = open_data(session, config)
    with user_errors(ValueError, OSError):
        vae = None
        if config.reconstruct.on and config.reconstruct.latents == "diffusers":
            vae = open_vae(config.reconstruct.vae)
            config = with_vae(config, vae, data)
        model, tokenizer = new_model(config, data)
        alone = copy.deepcopy(model) if config.coarse_alone else None  # both begin alike
        chat = ChatFormat(tokenizer, config.model.layout)
    parts = () if data.mixture is None else data.mixture.parts
    collections = [part.source for part in parts] or [data.train]
    check_tokens(config, collections, chat)
    check_latents(config, collections)
    decoder = choose_decoder(session, config.data, data.train, data.views)
    check_decoder(decoder, parts)
    videos = data.counts()["train"]
    optim, coarse_optim = (limit_epochs(one, videos) for one in (config.optim, config.coarse_optim))
    session.begin()

    restarts = config.restart.times if config.restart.step and data.has_tasks else 0
    attempts = [FINE, *(f"{FINE}-{number}" for number in range(2, 2 + restarts))]
    engine = session.engine(
        {**dict.fromkeys(attempts, optim.steps), **({COARSE: coarse_optim.steps} if alone is not None else {})}
    )
    clips = Clips(session, config, data, chat, decoder, open_quarantine(session, config.data))
    if vae is not None:
        clips = replace(clips, latents=make_latents(clips, vae))
    test = Test(session, config, clips, tokenizer, engine.cast)

    # The model as it is used. One that does not begin to look is given up, and begins anew from other weights.
    for number, name in enumerate(attempts):
        if number:
            model = new_model(config, data, number)[0]
        weight = max(config.loss.coarse_weight, config.reconstruct.coarse_weight)
        freeze_unused(model, mode, weight, reconstructs=config.reconstruct.on)
        module = module_of(model, config).to(device)
        give_up = partial(why_give_up, config) if name != attempts[-1] else None
        engine.train(stage(name, module, mode, optim, config, clips, test, give_up))
        if max(engine.checkpoints.steps(name), default=optim.steps) == optim.steps:
            break
    clips.report(name, optim)

    # Its fair opponent.
    if alone is not None:
        freeze_unused(alone, "coarse", config.loss.coarse_weight, reconstructs=config.reconstruct.on)
        engine.train(stage(COARSE, module_of(alone, config).to(device), "coarse", coarse_optim, config, clips, test))
        clips.report(COARSE, coarse_optim)

    # What they say of clips that nothing was chosen by, and where they looked.
    if session.run is not None:
        test.write(module, alone, attempts[: number + 1])
    engine.close()


def new_model(config: FvlmConfig, data: FvlmData, attempt: int = 0) -> tuple[FoveatedVLM, Any]:
    """Open the model as it is before the first step of an attempt, and its tokenizer."""
    options = replace(config.model, init_seed=config.model.init_seed + config.run.seed + _APART * attempt)
    words = texts(data.train, config.data.prompt)
    if config.start is None:
        model, tokenizer = open_model(options, size=data.views.size, texts=words)
    else:
        model, tokenizer = go_on(options, Path(config.start) / MODEL, data.views.size)
    unseen = data.views.size % model.encoder.patch
    if unseen and not attempt:
        log.info("%d pixels at the right and the lower edge of a frame fill no patch, and are not seen", unseen)
    if data.has_tasks and model.encoder.patch != CELL:
        raise ValueError(
            f"the demo's tiles are {CELL} pixels wide, and where to look is known by patches of that size; the "
            f"encoder's are {model.encoder.patch}: give --data.path, or another encoder"
        )
    return model, tokenizer


def module_of(model: FoveatedVLM, config: FvlmConfig) -> FoveatedVLM | Reconstructor:
    """Return what is trained of a model: it alone, or with a head that reconstructs frames."""
    if not config.reconstruct.on:
        return model
    return Reconstructor(model, latent_shape(config.reconstruct), config.reconstruct)


def why_give_up(config: FvlmConfig, step: int, values: dict[str, float]) -> str | None:
    """Return why an attempt ends after a validation, or None to go on."""
    fine, coarse = values["val_accuracy_fine_all"], values["val_accuracy_coarse_all"]
    if step != config.restart.step or fine - coarse >= config.restart.margin:
        return None
    return (
        f"the validation accuracy of the fine pass is {100 * fine:.1f} %, that of the coarse one {100 * coarse:.1f} %, "
        f"so that its looks are of no use yet: it begins anew from other weights"
    )


def stage(
    name: str,
    module: FoveatedVLM | Reconstructor,
    mode: Mode,
    optim: OptimConfig,
    config: FvlmConfig,
    clips: Clips,
    test: Test,
    stop: Callable[[int, dict[str, float]], str | None] | None = None,
) -> Stage:
    """Return the stage that trains a model, or one that reconstructs frames, in a mode."""
    loss = TextLoss(mode, config.loss)
    slower = optim.with_rate(config.backbone.lr, config.backbone.min_lr)
    return Stage(
        name, module, ReconstructLoss(loss, config.reconstruct) if config.reconstruct.on else loss, optim,
        partial(clips.loader, optim.micro_batch),
        partial(test.validate, name, module, mode), config.test.every or optim.steps, stop=stop,
        rates={} if slower == optim else {"encoder": slower, "language": slower},
        results=RESULTS, compile=config.run.compile,
    )  # fmt: skip
