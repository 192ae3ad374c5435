"""Batches, and where they come from: arrays, long sequences, any iterable, or the user's files. Imports no model."""

from typing import TYPE_CHECKING

from glasscell.lazy import attach

if TYPE_CHECKING:
    from glasscell.data.arrays import ArrayData
    from glasscell.data.batch import Batch, Data
    from glasscell.data.continuous import ContinuousData
    from glasscell.data.iterables import IterableData
    from glasscell.data.labelled.csv_sequences import read_csv
    from glasscell.data.labelled.labels import class_weights
    from glasscell.data.labelled.npz_files import read_npz
    from glasscell.data.labelled.reading import read_sequences
    from glasscell.data.labelled.sequences import LabelledSequences
    from glasscell.data.labelled.ts_files import read_ts
    from glasscell.data.series.baselines import LeastSquaresAR, SeasonalNaive
    from glasscell.data.series.series import Series, read_series
    from glasscell.data.series.transformation import SeriesTransformation
    from glasscell.data.series.windows import WindowData
    from glasscell.data.text.text_data import TextData
    from glasscell.data.text.vocabulary import Vocabulary

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
    | {"ContinuousData": "continuous", "IterableData": "iterables"}
    | {"TextData": "text.text_data", "Vocabulary": "text.vocabulary"}
    | {"LabelledSequences": "labelled.sequences", "class_weights": "labelled.labels"}
    | {"read_sequences": "labelled.reading", "read_csv": "labelled.csv_sequences"}
    | {"read_npz": "labelled.npz_files", "read_ts": "labelled.ts_files"}
    | {"Series": "series.series", "read_series": "series.series", "WindowData": "series.windows"}
    | {"SeriesTransformation": "series.transformation"}
    | {"LeastSquaresAR": "series.baselines", "SeasonalNaive": "series.baselines"},
)
