"""Batches, and where they come from: arrays, long sequences, any iterable, or the user's files. Imports no model."""

from typing import TYPE_CHECKING

from glasscell.lazy import attach

if TYPE_CHECKING:
    from glasscell.data.arrays import ArrayData
    from glasscell.data.batch import Batch, Data
    from glasscell.data.continuous import ContinuousData
    from glasscell.data.csv_sequences import read_csv
    from glasscell.data.iterables import IterableData
    from glasscell.data.labelled import LabelledSequences
    from glasscell.data.labels import class_weights
    from glasscell.data.npz_files import read_npz
    from glasscell.data.reading import read_sequences
    from glasscell.data.series import Series, read_series
    from glasscell.data.series_baselines import LeastSquaresAR, SeasonalNaive
    from glasscell.data.series_transformation import SeriesTransformation
    from glasscell.data.series_windows import WindowData
    from glasscell.data.text import TextData
    from glasscell.data.ts_files import read_ts
    from glasscell.data.vocabulary import Vocabulary

__all__ = [
    "ArrayData",
    "Batch",
    "ContinuousData",
    "Data",
    "IterableData",
    "LabelledSequences",
    "LeastSquaresAR",
    "SeasonalNaive",
    "Series",
    "SeriesTransformation",
    "TextData",
    "Vocabulary",
    "WindowData",
    "class_weights",
    "read_csv",
    "read_npz",
    "read_sequences",
    "read_series",
    "read_ts",
]

__getattr__, __dir__ = attach(
    __name__,
    {"ArrayData": "arrays", "Batch": "batch", "Data": "batch"}
    | {"ContinuousData": "continuous", "IterableData": "iterables", "TextData": "text", "Vocabulary": "vocabulary"}
    | {"LabelledSequences": "labelled", "class_weights": "labels", "read_sequences": "reading"}
    | {"read_csv": "csv_sequences", "read_npz": "npz_files", "read_ts": "ts_files"}
    | {"Series": "series", "read_series": "series", "SeriesTransformation": "series_transformation"}
    | {"LeastSquaresAR": "series_baselines", "SeasonalNaive": "series_baselines", "WindowData": "series_windows"},
)
