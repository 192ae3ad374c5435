"""Description of a training as JSON: whether a checkpoint is that of the same model, data and options, and engine.

Parts of a description:

``version``
    Of Glasscell: another one may compute other numbers.
``model``, ``data``, ``options``, ``validation``
    They must be the same in the training that goes on.
``limits``
    ``updates`` and ``epochs``, which may change.
``environment``
    Engine, threads, processor and versions of packages: with others, results agree to rounding only.
"""

from __future__ import annotations

import json
import os
import re
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from glasscell.core.blas_threads import max_threads
from glasscell.core.packages import is_installed
from glasscell.data.arrays import ArrayData
from glasscell.data.continuous import ContinuousData
from glasscell.data.series.windows import WindowData
from glasscell.data.text.text_data import TextData
from glasscell.training.sources import training_part
from glasscell.training.threads import SMALL_STEP

MAX_JSON = 4096  # bytes of a configuration that is stored whole; of a longer one the checksum
ADDRESS = r" at 0x[0-9a-fA-F]+"  # in the texts of functions and objects: another one in each process


def describe(training: Any, data: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the description of a training; `data` replaces that of its data."""
    return {
        "version": _version("glasscell"),
        "model": _describe_model(training),
        "data": _describe_data(training_part(training.data)) if data is None else dict(data),
        "validation": _describe_validation(training.validation),
        "options": _describe_options(training),
        "limits": {"updates": training.updates, "epochs": training.epochs},
        "environment": describe_environment(training.model, training.batch_size)
        | ({"ranks": training.num_ranks} if training.num_ranks > 1 else {}),
    }


def difference(stored: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    """Return the first entry in which a training differs from that of a checkpoint; empty if it may go on."""
    for part in ("version", "model", "data", "options", "validation"):
        for name, before, now in value_differences(part, stored.get(part), current[part]):
            return f"{name} {shortened(now)}, where it was {shortened(before)}"
    return ""


def other_environment(stored: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    """Return how the environment differs from that of a checkpoint; empty if results have the same bits."""
    differences = value_differences("", stored.get("environment"), current["environment"])
    return ", ".join(_other_value(*difference) for difference in differences)


def _other_value(name: str, before: Any, now: Any) -> str:
    if name == "ranks":  # one process states no number
        return f"{now or 1} {'ranks' if now else 'rank'} instead of {before or 1}"
    return f"{name} {shortened(now)} instead of {shortened(before)}"


def describe_environment(model: Any, batch_size: int) -> dict[str, Any]:
    """Return what decides the last bits of results: engine, threads, processor, versions."""
    uses_numba = getattr(model, "uses_numba", None)
    compiled = bool(uses_numba is not None and uses_numba(batch_size))
    is_small = model.parameters.vector.size * batch_size <= SMALL_STEP
    environment = {
        "engine": "numba" if compiled else "numpy",
        # The compiled engine has the same bits for any number of threads, and small steps have one.
        "threads": None if compiled or is_small else max_threads(),
        "processor": _processor(),
        "numpy": np.__version__,
    }
    return environment | ({"numba": _version("numba")} if compiled else {})


def _describe_model(training: Any) -> dict[str, Any]:
    model = training.model
    parameters = {name: [*view.shape] for name, view in model.parameters.items()}
    user_model = training._user_model  # noqa: SLF001 - of the same package
    description = {"class": type(user_model).__name__, "dtype": str(np.dtype(model.dtype))}
    return description | {
        "parameters": _json_or_checksum(parameters),
        "config": _config(getattr(model, "config", None)),
    }


def _config(config: Any) -> Any:
    try:
        return _json_or_checksum(json.loads(json.dumps(config)))
    except (TypeError, ValueError):
        return None


def _describe_data(data: Any) -> dict[str, Any]:
    description: dict[str, Any] = {"class": type(data).__name__}
    if isinstance(data, ArrayData):
        arrays: dict[str, Any] = {"x": data.x, "y": data.y, "lengths": data.lengths}
        arrays |= {"sample_weights": data.sample_weights, "step_weights": data.step_weights}
        return description | {name: _checksum(value) for name, value in arrays.items() if value is not None}
    if isinstance(data, ContinuousData):
        return description | {"x": _checksum(data.x), "y": _checksum(data.y), "steps": data.steps}
    if isinstance(data, TextData):
        described = describe_text(data)
        return described | {"ids": f"{data.checksum():08x}"}
    if isinstance(data, WindowData):
        numbers = {name: getattr(data, name) for name in ("training", "window", "burn_in", "validation_steps")}
        return description | {"inputs": _checksum(data.inputs), "targets": _checksum(data.targets)} | numbers
    if is_dataclass(data) and not isinstance(data, type):
        return description | {"arguments": _config(asdict(data, dict_factory=_with_checksums))}
    size = getattr(data, "num_batches", None)
    source: Any = getattr(data, "source", None)
    if size is None and hasattr(source, "__len__"):
        size = len(source)
    return description if size is None else description | {"num_batches": int(size)}


def _with_checksums(arguments: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return arguments by name, with checksums of arrays."""
    return {name: _checksum(value) if isinstance(value, np.ndarray) else value for name, value in arguments}


def describe_text(data: TextData) -> dict[str, Any]:
    """Return class, vocabulary and split of a text, without a checksum of it, for which all of it is read."""
    symbols = zlib.crc32(repr(data.vocabulary.symbols).encode())
    return {"class": type(data).__name__, "vocabulary": f"{symbols:08x}", "split": data.description}


def _describe_validation(batches: Any) -> dict[str, Any] | None:
    """Return a checksum of validation batches; of an iterable, which is not read for it, only that there is one."""
    if not isinstance(batches, list):
        return None if batches is None else {"class": "iterable"}
    arrays = [values for batch in batches for values in (batch.inputs, batch.targets, batch.weights, batch.lengths)]
    return {"arrays": _checksum([values for values in arrays if values is not None])}


def _describe_options(training: Any) -> dict[str, Any]:
    options = training.options
    names = ("batch_size", "accumulate", "clip_norm", "clip_value", "tbptt_steps", "patience", "evaluate_every")
    described: dict[str, Any] = {name: getattr(training, name) for name in names}
    described |= {"monitor": options.monitor, "keep": options.keep, "stop_at": dict(options.stop_at or {})}
    described |= {"loss": describe_function(training.loss), "metrics": sorted(training.metrics)}
    described |= {"optimizer": _describe_optimizer(training.optimizer)}
    described |= {"schedule": describe_function(training.schedule)}
    described |= {"groups": [[group.section.start, group.section.stop, group.factor] for group in training.groups]}
    seed = options.seed
    described |= {"seed": int(seed) if isinstance(seed, int | np.integer) else None}
    return described


def _describe_optimizer(optimizer: Any) -> dict[str, Any]:
    values = asdict(optimizer) if is_dataclass(optimizer) and not isinstance(optimizer, type) else {}
    values.pop("engine", None)  # changes no bit
    return {"class": type(optimizer).__name__, **{name: _number(value) for name, value in values.items()}}


def describe_function(function: Any) -> Any:
    """Return the name of a function, with the arguments of a partial one."""
    if function is None:
        return None
    if isinstance(function, partial):
        arguments = [describe_function(value) if callable(value) else _number(value) for value in function.args]
        keywords = {name: _number(value) for name, value in function.keywords.items()}
        return [describe_function(function.func), *arguments, *([keywords] if keywords else [])]
    return getattr(function, "__qualname__", type(function).__name__)


def _number(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return re.sub(ADDRESS, "", repr(value))[:200]


def _checksum(values: Any) -> list[Any]:
    """Return the shape and a checksum of an array, or of a list of arrays."""
    arrays = values if isinstance(values, list) else [values]
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data, checksum) if array.size else checksum
    shape = [*values.shape] if isinstance(values, np.ndarray) else [len(values), sum(map(len, values))]
    return [shape, f"{checksum:08x}"]


def _json_or_checksum(value: Any) -> Any:
    text = json.dumps(value, sort_keys=True)
    return value if len(text) <= MAX_JSON else {"checksum": f"{zlib.crc32(text.encode()):08x}"}


def value_differences(path: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the entries of two values of JSON that differ: path, and both values."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys([*now, *before]):
            yield from value_differences(f"{path}.{name}".removeprefix("."), before.get(name), now.get(name))
    elif _is_list(before) and _is_list(now) and len(before) == len(now):
        for number, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from value_differences(f"{path}.{number}".removeprefix("."), old, new)
    elif before != now and (repr(before), repr(now)) != ("nan", "nan"):
        yield path, before, now


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def shortened(value: Any) -> str:
    """Return a value as JSON of at most 100 characters."""
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _version(package: str) -> str:
    if package == "glasscell":
        return str(sys.modules["glasscell"].__version__)
    from importlib import metadata  # noqa: PLC0415 - only where it is used

    return metadata.version(package) if is_installed(package) else ""


@cache
def _processor() -> str:
    """Return the machine's type and a checksum of the instructions that NumPy uses."""
    features: dict[str, bool] = getattr(np._core._multiarray_umath, "__cpu_features__", {})  # type: ignore[attr-defined] # noqa: SLF001
    used = ",".join(sorted(name for name, present in features.items() if present))
    machine = os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "")
    return f"{machine} {zlib.crc32(used.encode()):08x}"
