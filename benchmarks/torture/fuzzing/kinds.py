"""Every kind of file that is read: its seed files, its mutations and its readers."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import importlib.util
import io
import json
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import glasscell as gc
from glasscell import checkpoint, convert
from glasscell.data import TextData, read_csv, read_npz, read_sequences, read_series, read_ts
from glasscell.limits import max_decompressed
from torture.fuzzing import models, trainings
from torture.fuzzing.containers import change_safetensors, change_zip, entries_of, zipped
from torture.fuzzing.models import content_of
from torture.fuzzing.programs import change_npy, change_onnx, change_pickle
from torture.fuzzing.texts import change_gzip, change_table
from torture.fuzzing.values import Generator, Mutation, change_bytes, changed_json, json_text, pick

FORMATS = Path(__file__).resolve().parents[4] / "shared" / "conformance" / "formats"
Reader = Callable[[Path], object]


class Kind(NamedTuple):
    """One kind of file.

    Attributes
    ----------
    suffix : str
        End of the file's name.
    seeds : callable
        Returns the contents of valid files, written with the help of a path.
    mutations : sequence of callable
        Change the content of a file; one is chosen at random.
    readers : sequence of callable
        One is chosen at random.
    packages : sequence of str
        Without these, this kind is not tested.
    size : callable
        Returns the size that bounds time and memory: of compressed data of the user, the size without compression, up
        to the limit of the readers.
    """

    suffix: str
    seeds: Callable[[Path], list[bytes]]
    mutations: Sequence[Mutation]
    readers: Sequence[Reader]
    packages: Sequence[str] = ()
    size: Callable[[bytes], int] = len


def _gzip_size(content: bytes) -> int:
    size, decompressor = 0, zlib.decompressobj(wbits=31)
    with contextlib.suppress(zlib.error):
        size = len(decompressor.decompress(content, max_decompressed(len(content))))
    return max(size, len(content))


def _zip_size(content: bytes) -> int:
    with contextlib.suppress(Exception), zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(info.file_size for info in archive.infolist())
        return max(min(size, max_decompressed(len(content))), len(content))
    return len(content)


# Weights


def _read_stream(path: Path) -> object:
    return models.stream_model().stream().load(path)


def _our_models(path: Path) -> list[bytes]:
    return [content_of(partial(_save, make()), path) for make in models.OURS.values()]


def _save(model: Any, path: Path) -> None:
    model.save(path)


def _our_traces(path: Path) -> list[bytes]:
    return [content_of(trace.save, path) for trace in models.traces()]


def _our_stream(path: Path) -> list[bytes]:
    return [content_of(models.write_stream, path)]


def _weights_alone(_: Path) -> list[bytes]:
    from safetensors.numpy import save

    made = [save(models.CONVERTIBLE[name]().to_torch()) for name in ("LSTM", "chain", "embedded")]
    return [*made, *_shared("torch_lstm.safetensors")]


def _shared(*names: str) -> list[bytes]:
    return [(FORMATS / name).read_bytes() for name in names if (FORMATS / name).is_file()]


def _pytorch(path: Path) -> list[bytes]:
    made = [content_of(partial(convert.save, make(), weights_only=True), path) for make in models.CONVERTIBLE.values()]
    return [*made, *_shared("torch_state_dict.pt", "torch_checkpoint_nested.pt", "torch_proj_state_dict.pt")]


def _pytorch_legacy(path: Path) -> list[bytes]:
    made = models.CONVERTIBLE["chain"]().to_torch()
    return [content_of(partial(convert.torch.write, made, legacy=True), path), *_shared("torch_state_dict_legacy.pt")]


def _change_archive(content: bytes, rng: Generator) -> bytes:
    return change_zip(content, rng, {"data.pkl": change_pickle, "/0": change_bytes, "byteorder": change_table})


def _hdf5(suffix: str) -> Callable[[Path], list[bytes]]:
    def seeds(path: Path) -> list[bytes]:
        only = suffix == ".weights.h5"
        made = [
            content_of(partial(convert.save, make(), weights_only=only), path) for make in models.CONVERTIBLE.values()
        ]
        names = {".weights.h5": ["keras.weights.h5"], ".h5": ["keras_legacy_model.h5"], ".keras": ["keras_model.keras"]}
        return [*made, *_shared(*names[suffix])]

    return seeds


def _change_json(content: bytes, rng: Generator) -> bytes:
    document = json.loads(content)
    for _ in range(int(rng.choice([1, 1, 2, 4]))):
        document = changed_json(document, rng)
    return json_text(document, rng)


def _change_keras(content: bytes, rng: Generator) -> bytes:
    return change_zip(content, rng, {".json": _change_json, ".h5": _change_hdf5})


def _change_hdf5(content: bytes, rng: Generator) -> bytes:
    """Change the words of a file, most of which are addresses and sizes, or the JSON in its attributes."""
    if rng.random() < 0.3:
        return change_bytes(content, rng)
    changed = bytearray(content)
    words = len(content) // 8
    used = [k for k in range(words) if 0 < int.from_bytes(content[8 * k : 8 * k + 8], "little") < 2**33]
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        k, j = int(pick(rng, used)), int(pick(rng, used))
        if rng.random() < 0.4:
            changed[8 * k : 8 * k + 8] = changed[8 * j : 8 * j + 8]
        else:
            size, value = (
                int(pick(rng, (1, 2, 4, 8))),
                int(pick(rng, (0, 1, 2**31, 2**32 - 1, 2**64 - 1, 8 * j, len(content), 255))),
            )
            start = 8 * k + int(rng.integers(0, 9 - size))
            changed[start : start + size] = (value % 256**size).to_bytes(size, "little")
    return bytes(changed)


def _onnx(path: Path) -> list[bytes]:
    made = [
        content_of(partial(convert.save, models.CONVERTIBLE[name]()), path) for name in ("LSTM", "chain", "embedded")
    ]
    made.append(models.folded_graph())
    names = (
        "torch_export_lstm_bi2.onnx",
        "torch_export_clf.onnx",
        "cntk_bidirectional.onnx",
        "torch_export_dynamo_lstm_bi2.onnx",
    )
    return [*made, *(content for content in _shared(*names) if len(content) < 60_000)]


# Numbers and text


def _numbers(path: Path) -> object:
    from glasscell.cli.inputs import numbers_of

    return numbers_of("--input", str(path))


def _npy_of(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _npy(_: Path) -> list[bytes]:
    x = np.arange(12.0).reshape(6, 2)
    return [_npy_of(array) for array in (x, x.astype("f4"), np.asfortranarray(x), np.arange(5), x > 3, x.astype(">f8"))]


def _npz(_: Path) -> list[bytes]:
    rng, seeds = np.random.default_rng(0), []
    for x, y in (
        (rng.normal(size=(6, 4, 2)), list("aabbab")),
        (rng.normal(size=(6, 4)).astype("f4"), np.arange(24).reshape(6, 4)),
    ):
        for save in (np.savez, np.savez_compressed):
            file = io.BytesIO()
            save(file, x=x, y=np.array(y), lengths=np.array([4, 3, 4, 1, 2, 4]))
            seeds.append(file.getvalue())
    return seeds


def _change_npz(content: bytes, rng: Generator) -> bytes:
    if rng.random() < 0.03:  # small only in its compressed form
        zeros = np.zeros((int(pick(rng, (10, 10_000, 400_000))), 30))
        return zipped([*entries_of(content).items(), ("x.npy", _npy_of(zeros))][1:], 8)
    return change_zip(content, rng, {".npy": change_npy})


ROWS = "id,time,a,b,label\n" + "".join(f"{k // 4},{k % 4},{k / 7:.3f},{-k},{'xy'[k // 4 % 2]}\n" for k in range(16))
WIDE = "".join(f"{'ab'[k % 2]}," + ",".join(f"{j * k / 3:.2f}" for j in range(6)) + "\n" for k in range(6))
DATES = "date,y,z\n" + "".join(f"2020-{k:02d}-01,{k * 1.5},{k % 3}\n" for k in range(1, 13))
DAYS = "date;y;z\n" + "".join(f"2020-01-{k:02d};{k},5;{k}\n" for k in range(1, 20))
HOURS = "date,y\n" + "".join(f"2020-01-01T{k:02d}:00:00+01:00,{k}\n" for k in range(20))
TS = "@problemName p\n@timeStamps false\n@univariate false\n@dimensions 2\n@equalLength true\n@seriesLength 3\n"
TS += "@classLabel true a b\n@data\n" + "".join(f"{k},2,{k / 3:.3f}:1,{-k},3:{'ab'[k % 2]}\n" for k in range(5))
TS_NUMBERS = (
    "# c\n@problemName p\n@univariate true\n@classLabel false\n@targetLabel true\n@data\n1,2,3:0.5\n4,?,6,7:1.5\n"
)


def _texts(*texts: str) -> Callable[[Path], list[bytes]]:
    return lambda _: [text.encode() for text in texts]


def _gzipped(*texts: str) -> Callable[[Path], list[bytes]]:
    return lambda _: [gzip.compress(text.encode(), mtime=0) for text in texts]


STEP_READERS: tuple[Reader, ...] = (
    partial(read_csv, label="label", id="id", time="time"),
    partial(read_csv, label="label", id="id", per_step=True, ignore=["time"], fill="linear"),
    partial(read_csv, features=["a", "b"], id="id", fill="previous"),
    partial(read_sequences, per_step=True, label="label"),
    partial(read_sequences, per_step=True, label="label", ignore=["id", "time"], header=True),
)
ROW_READERS: tuple[Reader, ...] = (
    partial(read_csv, label="1", header=False),
    partial(read_csv, label="1", header=False, ragged=True, features_per_step=2),
    partial(read_csv, label="1", ragged=True, fill="previous"),
    partial(read_csv, ignore=["1"], fill="linear"),
)
SERIES_READERS: tuple[Reader, ...] = (
    lambda path: read_series(path, ["y"]),
    lambda path: read_series(path, ["y"], time="date"),
    lambda path: read_series(path, ["y"], time="date", fill="linear"),
    lambda path: read_series(path, ["y"], time="date", known_exogenous=["z"], fill="linear"),
    lambda path: read_series(path, ["y"], time="date", decimal=",", delimiter=";", past_exogenous=["z"]),
)


def _text_data(unit: Any, path: Path) -> object:
    try:
        return TextData.from_files(path, unit, streams=2, steps=3, validation=0)
    except ValueError as error:
        if str(error).startswith("text must have at least"):  # it is of all files, and names none
            raise ValueError(f"{path}: {error}") from None
        raise


# Settings of runs


def _settings(command: str) -> Callable[[Path], list[bytes]]:
    table = {
        "label": "label",
        "id": "id",
        "time": "time",
        "rows": None,
        "header": None,
        "delimiter": ",",
        "decimal": ".",
    }
    table |= {"ignore_column": [], "column": ["a", "b"], "fill": None, "ragged": False, "features_per_step": None}
    series = {
        "column": ["y"],
        "time": "date",
        "known": [],
        "past": [],
        "fill": None,
        "decimal": ".",
        "delimiter": ",",
    }
    options = {"classify": table, "forecast": series | {"level": 0.8}}[command]
    settings = {"command": command, "options": options, "features": ["a", "b"]}
    return lambda _: [json.dumps(settings, indent=1).encode()]


def _predict(name: str, table: str, path: Path) -> object:
    """Run `glasscell predict` with a model and the settings; raise ValueError with the line that it prints."""
    from glasscell.cli import main

    folder = path.parent / f"run of {name}"
    if not folder.is_dir():
        folder.mkdir()
        models.OURS[name]().save(folder / checkpoint.MODEL_FILE)
        (folder / "data.csv").write_text(table)
    (folder / "settings.json").write_bytes(path.read_bytes())
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(["predict", str(folder), str(folder / "data.csv")])
        except SystemExit as stopped:
            code = stopped.code
    if code in (0, 1):
        return out
    if code != 2:
        raise RuntimeError(f"exit code {code}: {err.getvalue()}")
    raise ValueError(f"{path.name}: {err.getvalue().strip()}")


COMMA_READERS: tuple[Reader, ...] = (partial(read_csv, decimal=",", delimiter=";"), partial(read_csv, decimal=","))

OURS: tuple[Mutation, ...] = (*(change_safetensors,) * 9, change_bytes)
PICKLES: tuple[Mutation, ...] = (change_pickle, change_pickle, change_bytes)
NPZ_READERS: tuple[Reader, ...] = (read_npz, partial(read_npz, y=None))
CHANGED_TEXT = (change_table, change_table, change_table, change_bytes)
WEIGHTS: tuple[Reader, ...] = (convert.load, convert.weights, convert.lstms)

KINDS: dict[str, Kind] = {
    "models": Kind(".safetensors", _our_models, OURS, (gc.load, gc.load, convert.load)),
    "weights": Kind(".safetensors", _weights_alone, (change_safetensors, change_bytes), WEIGHTS),
    "traces": Kind(".safetensors", _our_traces, OURS, (gc.load,)),
    "streams": Kind(".safetensors", _our_stream, OURS, (_read_stream,)),
    "pt": Kind(".pt", _pytorch, (_change_archive,) * 4 + (change_bytes,), (*WEIGHTS, convert.torch.read)),
    "pt, legacy": Kind(".pt", _pytorch_legacy, PICKLES, (*WEIGHTS, convert.torch.read)),
    "keras": Kind(".keras", _hdf5(".keras"), (_change_keras,) * 5 + (change_bytes,), WEIGHTS, ("h5py",)),
    "weights.h5": Kind(".weights.h5", _hdf5(".weights.h5"), (_change_hdf5,), WEIGHTS, ("h5py",)),
    "h5": Kind(".h5", _hdf5(".h5"), (_change_hdf5,), WEIGHTS, ("h5py",)),
    "onnx": Kind(".onnx", _onnx, (change_onnx,) * 6 + (change_bytes,), WEIGHTS, ("onnx",)),
    "npy": Kind(".npy", _npy, (change_npy, change_npy, change_bytes), (_numbers,)),
    "npz": Kind(".npz", _npz, (_change_npz, _change_npz, change_bytes), NPZ_READERS, (), _zip_size),
    "csv, steps": Kind(".csv", _texts(ROWS, ROWS.replace(",", ";")), CHANGED_TEXT, STEP_READERS),
    "csv, rows": Kind(".csv", _texts(WIDE, *(WIDE.replace(",", new) for new in "\t ")), CHANGED_TEXT, ROW_READERS),
    "csv, commas": Kind(".csv", _texts("x;y\n1,5;2\n-3;1e3\n"), CHANGED_TEXT, COMMA_READERS),
    "csv.gz": Kind(".csv.gz", _gzipped(WIDE, WIDE.replace(",", ";")), (change_gzip,), ROW_READERS, (), _gzip_size),
    "csv of a command": Kind(".csv", _texts("x,y\n1,2\n", "1,2\n" * 9), CHANGED_TEXT, (_numbers,)),
    "series": Kind(".csv", _texts(DATES, DAYS, HOURS, DATES.replace("-01,", ",")), CHANGED_TEXT, SERIES_READERS),
    "series.gz": Kind(".csv.gz", _gzipped(DATES, HOURS), (change_gzip,), SERIES_READERS, (), _gzip_size),
    "ts": Kind(".ts", _texts(TS, TS_NUMBERS), CHANGED_TEXT, (read_ts, partial(read_ts, fill="linear"))),
    "ts.gz": Kind(".ts.gz", _gzipped(TS), (change_gzip,), (read_ts,), (), _gzip_size),
    "text": Kind(
        ".txt",
        _texts(models.TEXT * 4, "äöü 日本語 😀\r\n" * 9),
        CHANGED_TEXT,
        [partial(_text_data, unit) for unit in ("characters", "words", "bytes")],
    ),
    "checkpoints": Kind(
        ".safetensors", trainings.checkpoints, OURS, (trainings.read_checkpoint, trainings.resume),
    ),
    "manifests": Kind(".json", trainings.manifests, (trainings.change_manifest,), (trainings.read_manifest,)),
    "manifests of runs": Kind(
        ".json", trainings.run_manifests, (_change_json, _change_json, change_bytes),
        (partial(trainings.list_runs, "manifest.json"),),
    ),
    "histories of runs": Kind(
        ".csv", _texts("update,loss,accuracy\n1,0.5,0.1\n2,0.25,0.5\n"), CHANGED_TEXT,
        (partial(trainings.list_runs, "history.csv"),),
    ),
    "settings of classify": Kind(
        ".json", _settings("classify"), (_change_json, _change_json, change_bytes),
        (partial(_predict, "classifier", ROWS.replace("x\n", "a\n").replace("y\n", "b\n")),),
    ),
    "settings of forecast": Kind(
        ".json", _settings("forecast"), (_change_json, _change_json, change_bytes),
        (partial(_predict, "forecaster", DATES),),
    ),
}  # fmt: skip


def available() -> dict[str, Kind]:
    """Return the kinds whose packages are installed."""
    return {n: k for n, k in KINDS.items() if all(importlib.util.find_spec(package) for package in k.packages)}


def import_all() -> None:
    """Import what the readers import, so that a read is measured alone and what it imports is noticed."""
    with warnings.catch_warnings(action="ignore"):
        for kind in available().values():
            for package in kind.packages:
                importlib.import_module(package)
