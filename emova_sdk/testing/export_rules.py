"""The rules of components that can be exported or run from an export, beside those of their graphs."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from emova_sdk.components.runtimes.export_folder import ExportFolder
from emova_sdk.components.trials import results_of, run_trials
from emova_sdk.errors import ExportError
from emova_sdk.exporters.saturation import require_safe
from emova_sdk.testing.subject import CheckFailed, Subject, require


def trials_pass(subject: Subject) -> None:
    """Trials have unique names, and pass with the component in the place of its export, or with its original.

    Make `trials` do the same work each time, and judge equal outcomes as equal. An export that fails one is to be made again
    in a higher precision.
    """
    part, original = subject.component, subject.samples.original
    trials = (original or part).trials()
    names = [trial.name for trial in trials]
    require(len(set(names)) == len(names), f"names of trials are not unique: {', '.join(names)}")
    for trial in trials:
        if original is None:
            outcome = trial.run(part)
            results = results_of(trial, outcome, outcome, precision="fp32")
        else:
            results = run_trials([trial], original, part, precision=subject.samples.precision)
        for one in results:
            found = f"`{one.trial}`: {one.measure} is {one.value:.3g}, allowed is {one.allowed}"
            require(one.passed, found)


def exports_do_not_saturate(subject: Subject) -> None:
    """The 8-bit products of an export give the same answer on every processor: no pair of them can leave 16 bits.

    Export again with `emova export onnx`, which bounds the weights; files of other programs are not checked by it.
    """
    exported = getattr(subject.component, "exported", None)
    if not isinstance(exported, ExportFolder) or find_spec("onnx") is None:
        return
    for file in exported.files.values():
        try:
            require_safe(file)
        except ExportError as error:
            raise CheckFailed(error.message) from error


EXPORT_RULES: list[Callable[[Subject], None]] = [trials_pass, exports_do_not_saturate]
