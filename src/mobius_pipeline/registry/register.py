"""Register the candidate of a comparison in MLflow's model registry, and set its aliases."""

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.comparison.model import Comparison
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.models.base_unet import WEIGHTS
from mobius_pipeline.registry.card import licence_of, model_card
from mobius_pipeline.registry.config import RegisterConfig
from mobius_pipeline.registry.package import model_files
from mobius_pipeline.registry.registration import Registration
from mobius_pipeline.registry.rules import Standing, candidate, moves, why_chosen
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import sha256
from mobius_pipeline.tracking import models
from mobius_pipeline.training.result import TrainingResult

log = logging.getLogger(__name__)

CANDIDATE, CHAMPION = "candidate", "champion"
# Tags of a version: loss and data, which the rules compare, and the weights, which identify the training.
_LOSS, _DATA, _WEIGHTS = "heldout_loss", "data", "weights.sha256"
_MOST_TEXT = 5000  # characters of a description that MLflow's database accepts


def register(
    comparison: Comparison,
    trainings: Sequence[TrainingResult],
    base: BaseModel,
    clip: ClipFormat,
    config: RegisterConfig,
) -> Registration:
    """Register the candidate of a comparison, and move the alias `champion` to it if the rule allows that.

    A training that is already a version is not registered again.

    Args:
        comparison: The comparison of the trainings.
        trainings: The trainings whose weights are available.
        base: The base of the trainings.
        clip: The format of sampled clips.
        config: The rules.

    Raises:
        MobiusError: If no project is configured, the weights of the candidate are not available, or MLflow
            cannot be reached.
    """
    label = candidate(comparison, config.candidate)
    trained = _training_of(comparison, label, trainings)
    with models.registry() as registry:
        version = _known_version(registry, config.name, trained) or _new_version(
            registry, comparison, label, trained, base, clip, config
        )
        registry.set_registered_model_alias(config.name, CANDIDATE, version)
        new = _standing(registry, config.name, version)
        champion = _champion(registry, config.name)
        moved, why = moves(new, champion, config.champion)
        if moved:
            registry.set_registered_model_alias(config.name, CHAMPION, version)
    verb = "moved" if moved else "stays"
    log.info("%s version %s (%s): the champion %s, since %s.", config.name, version, label, verb, why)
    return Registration(
        name=config.name,
        version=version,
        column=label,
        why_chosen=why_chosen(comparison, label, config.candidate),
        heldout_loss=new.heldout_loss,
        champion=version if moved or champion is None else champion.version,
        champion_moved=moved,
        why=why,
        uri=f"models:/{config.name}/{version}",
    )


def _training_of(comparison: Comparison, label: str, trainings: Sequence[TrainingResult]) -> TrainingResult:
    """Return the training of a column, of several seeds the first whose weights are available."""
    ids = comparison.columns[label].run_ids
    here = {one.run_id: one for one in trainings}
    found = next((here[run] for run in ids if run in here), None)
    if found is None:
        raise MobiusError(
            f"The comparison prefers {label!r} (runs {', '.join(ids)}), whose weights are not in data/. "
            f"Those of {', '.join(here)} are. Compare these (`kedro run --pipelines=compare`), or train "
            "again with the preferred one's settings."
        )
    return found


def _known_version(registry: Any, name: str, trained: TrainingResult) -> str | None:
    """Return the version that a training was registered as, if any."""
    weights = sha256(trained.folder / WEIGHTS)
    found = registry.search_model_versions(f"name = '{name}' AND tags.`{_WEIGHTS}` = '{weights}'")
    ready = [one.version for one in found if one.status == "READY"]
    return str(max(ready, key=int)) if ready else None


def _new_version(
    registry: Any,
    comparison: Comparison,
    label: str,
    trained: TrainingResult,
    base: BaseModel,
    clip: ClipFormat,
    config: RegisterConfig,
) -> str:
    """Log the model with the run of its training, and make it a version."""
    column, prints = comparison.columns[label], trained.description.fingerprints
    card = model_card(comparison, label, trained, licence_of(base.folder, config.base_licence))
    tags = {
        _LOSS: repr(column.heldout_loss),
        _DATA: prints.data,
        _WEIGHTS: sha256(trained.folder / WEIGHTS),
        "mode": trained.mode,
        "base": prints.base,
    }
    with TemporaryDirectory() as folder:
        files = model_files(Path(folder), trained, base, clip, config, card)
        model = models.log_model(files, config.name, trained.run_id, trained.mode, tags)
    models.make_registered_model(registry, config.name)
    version = registry.create_model_version(
        config.name,
        source=model.artifact_location,
        run_id=model.source_run_id,
        tags=tags,
        description=card[:_MOST_TEXT],
        model_id=model.model_id,
    )
    return str(version.version)


def _champion(registry: Any, name: str) -> Standing | None:
    version = registry.get_registered_model(name).aliases.get(CHAMPION)
    return None if version is None else _standing(registry, name, str(version))


def _standing(registry: Any, name: str, version: str) -> Standing:
    """Return the loss and the data of a version, for the rules.

    Raises:
        MobiusError: If it was registered by other means, so that its loss is unknown.
    """
    tags = registry.get_model_version(name, version).tags
    if missing := [tag for tag in (_LOSS, _DATA) if tag not in tags]:
        raise MobiusError(
            f"Version {version} of {name} lacks the tags {', '.join(missing)}: it was registered by other "
            f"means. Set them, or give the alias {CHAMPION} to another version."
        )
    return Standing(version, float(tags[_LOSS]), tags[_DATA])
