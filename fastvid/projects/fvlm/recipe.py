"""fVLM: a vision-language model that reads each frame through one glance, and says where it looked.

    stage "fine":    the model as it is used: every glance is aimed by the language model; the static glance of the
                     coarse pass is trained beside it
    stage "coarse":  a model of its own, whose static glance alone is trained: the fair opponent
    test, report:    both, on clips that nothing was chosen by; controls; where the glances went

``python -m fastvid.train fvlm`` runs all of it on the demo's clips.
"""

import logging
from functools import partial

from fastvid.command import user_errors
from fastvid.data import ChatFormat
from fastvid.projects.fvlm.acceptance import COARSE_ALONE
from fastvid.projects.fvlm.config import FvlmConfig
from fastvid.projects.fvlm.controls import COARSE, FINE, conditions
from fastvid.projects.fvlm.data import Clips, FvlmData, open_data, texts
from fastvid.projects.fvlm.evaluation import Evaluation, Evaluator
from fastvid.projects.fvlm.loss import TextLoss, freeze_unused
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.model_config import Mode
from fastvid.projects.fvlm.recipe_files import COARSE_MODEL, GAZE_VIDEO, MODEL, RESULT
from fastvid.projects.fvlm.results import by_task, measured
from fastvid.projects.fvlm.tiny import tiny_model
from fastvid.projects.fvlm.tokenizer import word_tokenizer
from fastvid.report.records import RunRecords
from fastvid.train.data import open_quarantine
from fastvid.train.decoder import choose_decoder
from fastvid.train.engine import Engine, Stage
from fastvid.train.optim import OptimConfig, limit_epochs
from fastvid.train.session import Session

log = logging.getLogger(__name__)


def run(session: Session, config: FvlmConfig) -> None:
    """Run the whole recipe, continuing where the run directory says it stopped."""
    world, device, mode = session.world, session.world.device, config.model.mode

    # All that a wrong option can break comes first: `session.begin` makes the run's directory.
    with user_errors(ValueError, OSError):
        for optim in (config.optim, config.coarse_optim):
            optim.check_processes(world.size)
    data = open_data(session, config)
    with user_errors(ValueError, OSError):
        tokenizer = word_tokenizer(texts(data.train, config.data.prompt))
        chat = ChatFormat(tokenizer, config.model.layout)
        model = new_model(config, tokenizer, data, mode).to(device)
        alone = new_model(config, tokenizer, data, "coarse").to(device) if config.coarse_alone else None
    decoder = choose_decoder(session, config.data, data.train, data.views)
    videos = data.counts()["train"]
    optim, coarse_optim = (limit_epochs(one, videos) for one in (config.optim, config.coarse_optim))
    session.begin()

    engine = session.engine({FINE: optim.steps, **({COARSE: coarse_optim.steps} if alone is not None else {})})
    clips = Clips(session, config, data, chat, decoder, open_quarantine(session, config.data))
    test = Test(session, config, clips, engine)

    # The model as it is used, and the fair opponent.
    engine.train(stage(FINE, model, mode, optim, config, clips, test))
    if alone is not None:
        engine.train(stage(COARSE, alone, "coarse", coarse_optim, config, clips, test))

    # What they say of clips that nothing was chosen by, and where they looked.
    if session.run is not None:
        test.write(model, alone)
    engine.close()
