"""The end of a SALT run: probes where there are labels, and the report."""

import logging
from collections.abc import Callable

from fastvid.data import Quarantine
from fastvid.eval.clip_versions import SEGMENTS
from fastvid.eval.features import ProbeEntry
from fastvid.eval.options import Probe
from fastvid.eval.suite import ProbeData, run_probes
from fastvid.models.teachers import Teacher
from fastvid.models.vit import VideoViT
from fastvid.projects.salt.config import SaltConfig
from fastvid.projects.salt.data import SaltData
from fastvid.train.session import Session

log = logging.getLogger(__name__)

_FEWEST = 5  # labelled videos to fit on: a fifth of them chooses the settings


def entries(student: VideoViT, teacher: Teacher | None, untrained: VideoViT) -> list[ProbeEntry]:
    """Return the student and the encoders to compare it with. The teacher is left out where only its latents were
    given.
    """
    return [
        ProbeEntry("student", student, student.grid),
        *([] if teacher is None else [ProbeEntry("teacher", teacher, teacher.grid)]),
        ProbeEntry("random initialisation", untrained, untrained.grid),
        ProbeEntry("student, single frame", student, student.grid, still=True),
    ]


def probe_run(
    session: Session,
    config: SaltConfig,
    data: SaltData,
    student: VideoViT,
    teacher: Teacher | None,
    untrained: Callable[[], VideoViT],
    quarantine: Quarantine,
) -> None:
    """Probe the student and write ``probe.json``, unless that was done, or there is nothing to probe with."""
    assert session.run is not None
    if not config.probe.enabled or session.run.read_json("probe.json") is not None:
        return
    if len(data.classes) < 2:
        log.info("no probes: they need videos of at least two classes, and these have %d", len(data.classes))
        return
    train = sum(sample.label is not None for sample in data.train.samples)
    test = len(data.test.samples) if data.test is not None else 0
    if data.test is None or train < _FEWEST or test < 1:
        log.info("no probes: %d labelled videos to fit on and %d to test on are too few", train, test)
        return
    device = session.world.device
    result = run_probes(
        entries(student.to(device), None if teacher is None else teacher.to(device), untrained().to(device)),
        ProbeData(data.train, data.test, data.classes, data.views),
        config.probe,
        probes=possible_probes(config.probe.probes, student.grid[0]),
        device=device,
        quarantine=quarantine,
        check=session.signals.check,
    )
    session.run.write_json("probe.json", result)


def possible_probes(probes: tuple[Probe, ...], slots: int) -> tuple[Probe, ...]:
    """Return the probes without that of order, where clips of ``slots`` time slots are too short for it."""
    if slots >= SEGMENTS or "order" not in probes:
        return probes
    log.info("no probe of order: it shuffles %d segments, and clips have %d time slots", SEGMENTS, slots)
    return tuple(name for name in probes if name != "order")
