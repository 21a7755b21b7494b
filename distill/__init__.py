"""Distil large face networks into tiny facial-expression students, from logits cached once.

The names below are loaded when they are first used, so that `import distill` costs nothing.
"""

from importlib import import_module

__version__ = "0.2.0"

# Commands that are called, too: `distill.export(student, ...)`. All others are run with `python -m` alone.
_CALLED_COMMANDS = ("compare", "export")
# Name -> module. None of these modules is run with `python -m`.
_EXPORTS = {
    "Batch": "distill.losses.objective",
    "CachedOutputs": "distill.training.batches",
    "CachedTeachers": "distill.training.ensemble",
    "Dataset": "distill.data.dataset",
    "DistillationLoss": "distill.losses.distillation_loss",
    "DistillationObjective": "distill.losses.objective",
    "FEATURE_LOSSES": "distill.losses.feature_losses",
    "FeatureObjective": "distill.losses.feature_objective",
    "ExtraData": "distill.training.sources",
    "InputError": "distill.errors",
    "InputFormat": "distill.runtimes.input_format",
    "LogitStore": "distill.logit_store",
    "OPERATIONS": "distill.data.operations",
    "Objective": "distill.losses.objective",
    "OnlineTeacher": "distill.scoring.online_teacher",
    "Operation": "distill.data.operations",
    "Predictor": "distill.prediction.predictor",
    "Ramp": "distill.losses.schedules",
    "RECIPES": "distill.training.recipe",
    "Recipe": "distill.training.recipe",
    "RunRecord": "distill.runs.run_record",
    "SOFT_LOSSES": "distill.losses.soft_losses",
    "Shard": "distill.logit_store",
    "SoftLoss": "distill.losses.soft_losses",
    "Teacher": "distill.training.sources",
    "WarmedRamp": "distill.losses.schedules",
    "ViewSpec": "distill.data.views",
    "as_objective": "distill.losses.objective",
    "cache_logits": "distill.scoring.caching",
    "cross_validate": "distill.experiments.cross_validation",
    "deal_folds": "distill.data.folds",
    "evaluate_model": "distill.evaluation.evaluate_model",
    "export_logits": "distill.logit_store.exchange",
    "import_logits": "distill.logit_store.exchange",
    "load_network": "distill.runs.networks",
    "merge_parts": "distill.logit_store",
    "open_dataset": "distill.data.open_dataset",
    "open_exported": "distill.prediction.exported_model",
    "open_logits": "distill.logit_store",
    "open_model": "distill.runtimes.open_model",
    "read_record": "distill.runs.run_record",
    "spot_check": "distill.scoring.spot_check",
    "synthetic_faces": "distill.data.synthetic_faces",
    "train": "distill.training.train",
    "train_from_labels": "distill.training.train",
    "with_splits": "distill.data.splits",
}
__all__ = sorted([*_EXPORTS, *_CALLED_COMMANDS])


def __getattr__(name: str):
    if name in _CALLED_COMMANDS:
        return import_module(f"distill.{name}")
    if name not in _EXPORTS:
        raise AttributeError(f"module 'distill' has no attribute {name!r}")
    try:
        value = getattr(import_module(_EXPORTS[name]), name)
    except ModuleNotFoundError as error:  # on a device
        from distill.refusals import missing_package

        raise ModuleNotFoundError(f"distill.{name} {missing_package(error)}", name=error.name) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
