"""Several models of one kind, whose mean prediction is better than that of one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.buffers import BufferPool
from glasscell.core.types import Array, Seed
from glasscell.data.batch import Batch
from glasscell.data.predictions import largest_output
from glasscell.models import averaging
from glasscell.models.averaging import Outputs
from glasscell.models.protocol import ForwardPass
from glasscell.tasks.binary import Bits
from glasscell.validation import type_name

if TYPE_CHECKING:
    from glasscell.atomic_files import StrPath
    from glasscell.models.ensemble_stream import EnsembleStream
    from glasscell.models.language_scores import Score

MAX_MEMBERS = 1000
OUTPUTS: dict[str, Outputs | None] = {  # what the outputs of each class of models are; None: it is passed
    "Sequential": None,
    "CopyLSTM": "bits",
    "LanguageModel": "classes",
    "SequenceClassifier": "classes",
    "SequenceRegressor": "values",
}
COMMON = {  # what the members of an ensemble must have in common, by class
    "CopyLSTM": ("bits per step and mode", lambda model: (model.task.bits_per_step, model.task.mode)),
    "LanguageModel": ("vocabularies", lambda model: model.vocabulary.config),
    "SequenceClassifier": ("inputs, classes and per_step", lambda m: (m.input_size, m.classes, m.per_step)),
    "SequenceRegressor": ("inputs, outputs and per_step", lambda m: (m.input_size, m.output_size, m.per_step)),
}


class Ensemble:
    """The mean of several models, such as some that differ in their seeds: Lakshminarayanan et al. (2017).

    Probabilities are averaged, not logits. For forecasters there is :class:`glasscell.ForecasterEnsemble`.

    Parameters
    ----------
    members : sequence of models
        One to 1,000, all Sequential, CopyLSTM, LanguageModel, SequenceClassifier or SequenceRegressor, with the same
        inputs and outputs. Sizes and layers may differ.
    outputs : {"classes", "bits", "values"}, optional
        Whether outputs are logits of classes (softmax), logits of bits (sigmoid), or values. Required for Sequential
        models. Default: that of the kind of models.

    Attributes
    ----------
    members : tuple of models
    outputs : str

    Examples
    --------
    >>> import numpy as np
    >>> import glasscell as gc
    >>> x, labels = np.random.default_rng(0).normal(size=(20, 5, 2)), ["up", "down"] * 10
    >>> members = [gc.SequenceClassifier(2, ["down", "up"], hidden_size=4, seed=seed) for seed in range(3)]
    >>> for seed, member in enumerate(members):
    ...     history = gc.fit(member, (x, labels), updates=3, seed=seed)
    >>> ensemble = gc.Ensemble(members)
    >>> ensemble.predict_proba(x).shape, ensemble.spread(x).shape, len(ensemble.classify(x))
    ((20, 2), (20, 2), 20)
    """

    def __init__(self, members: Sequence[Any], *, outputs: Outputs | None = None) -> None:
        if isinstance(members, str | bytes) or not isinstance(members, Sequence):
            raise TypeError(f"members must be a list of models, got {type_name(members)}")
        if not 1 <= len(members) <= MAX_MEMBERS:
            raise ValueError(f"members must be one to {MAX_MEMBERS} models, got {len(members)}")
        self.members = tuple(members)
        self._kind = _common_kind(self.members)
        self.outputs: Outputs = _outputs(self._kind, outputs)

    # Predictions

    def predict(self, x: Any, *, batch_size: int = 256, lengths: ArrayLike | None = None) -> Any:
        """Return the mean over members: of probabilities of classes or bits, or of values.

        Parameters
        ----------
        x, batch_size, lengths
            As in :meth:`glasscell.Sequential.predict`; of classifiers and regressors x may also be one sequence (T, I).

        Returns
        -------
        array, or list of arrays
            Of the shape of the outputs of one member.
        """
        return self._over_members(averaging.mean, x, batch_size, lengths)

    def predict_proba(self, x: Any, *, batch_size: int = 256, lengths: ArrayLike | None = None) -> Any:
        """Return the mean probability of each class, or of each bit to be 1; as :meth:`predict`.

        Raises
        ------
        TypeError
            If the outputs are values.
        """
        if self.outputs == "values":
            raise TypeError('predict_proba needs outputs that are "classes" or "bits", got "values"')
        return self.predict(x, batch_size=batch_size, lengths=lengths)

    def spread(self, x: Any, *, batch_size: int = 256, lengths: ArrayLike | None = None) -> Any:
        """Return the standard deviation over members of what :meth:`predict` averages, with divisor M - 1.

        Raises
        ------
        ValueError
            If there is one member.
        """
        if len(self.members) == 1:
            raise ValueError("spread needs at least two members, got 1")
        return self._over_members(averaging.deviation, x, batch_size, lengths)

    def classify(self, x: Any, *, batch_size: int = 256, lengths: ArrayLike | None = None) -> Any:
        """Return the label with the largest mean probability; see :meth:`glasscell.SequenceClassifier.classify`.

        Raises
        ------
        TypeError
            If the members are no classifiers.
        """
        self._check_kind("classify", "SequenceClassifier")
        classes, per_step = self.members[0].classes, self.members[0].per_step
        mean, single = self.predict_proba(x, batch_size=batch_size, lengths=lengths), _is_single(x)
        if not per_step:
            labels: list[Any] = [classes[k] for k in largest_output(np.atleast_2d(mean))]
        else:
            entries = [mean] if single else mean
            ends = [len(entry) for entry in entries] if lengths is None else np.asarray(lengths).reshape(-1).tolist()
            labels = [
                [classes[k] for k in largest_output(entry[:end])] for entry, end in zip(entries, ends, strict=True)
            ]
        return labels[0] if single else labels

    def copy(self, bits: ArrayLike) -> Bits:
        """Return the bits whose mean probability is above one half; see :meth:`glasscell.CopyLSTM.copy`.

        Raises
        ------
        TypeError
            If the members are no CopyLSTM.
        """
        self._check_kind("copy", "CopyLSTM")
        task = self.members[0].task
        payload = task.validate_payload(bits)
        n = payload.shape[-1]
        batch = task.make_batch([payload.reshape(-1, n) if n else np.zeros((0, 0))], self.members[0].dtype)
        return task.decode_outputs(self.infer(batch).outputs, n).reshape(payload.shape)  # type: ignore[no-any-return]

    def score(self, text: str | bytes, *, streams: int = 1, passages: int = 5, width: int = 60) -> Score:
        """Return how well the mean probability predicts a text; see :meth:`glasscell.LanguageModel.score`.

        Raises
        ------
        TypeError
            If the members are no LanguageModel.
        """
        from glasscell.data.text.id_storage import StoredIds  # noqa: PLC0415 - only where it is used
        from glasscell.models.language_scores import score_ids  # noqa: PLC0415

        self._check_kind("score", "LanguageModel")
        vocabulary = self.members[0].vocabulary
        ids = StoredIds(vocabulary.encode(text).astype(vocabulary.id_dtype))
        return score_ids(self, vocabulary, ids, streams=streams, passages=passages, width=width)

    def sample(
        self,
        prompt: str | bytes = "",
        length: int = 1000,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: Seed | None = 0,
    ) -> Iterator[str]:
        """Continue a text with symbols drawn from the mean probability; see :meth:`glasscell.LanguageModel.sample`.

        Parameters
        ----------
        prompt, length, seed
            As in :meth:`glasscell.LanguageModel.sample`.
        temperature : float
            The logarithms of the mean probabilities are divided by it.
        top_k : int, optional
            Draw from the k symbols with the largest mean probability only. Default: all.

        Yields
        ------
        str
            The text that each symbol completes.

        Raises
        ------
        TypeError
            If the members are no LanguageModel.
        ValueError
            As :meth:`glasscell.LanguageModel.sample`, at the call.
        """
        from glasscell.models.text_sampling import sample_text  # noqa: PLC0415 - only where it is used

        self._check_kind("sample", "LanguageModel")
        vocabulary = self.members[0].vocabulary
        return sample_text(lambda: self.stream().push_outputs, vocabulary, prompt, length, temperature, top_k, seed)

    def stream(self, batch: int | None = None, *, state: Sequence[Any] | None = None) -> EnsembleStream:
        """Return a stream of this ensemble, which takes one step at a time and returns the mean over the members.

        Parameters
        ----------
        batch : int, optional
            Number of independent streams that step together. Default: one, whose arrays have no batch axis.
        state : sequence of M states, optional
            Initial state of each member, as ``stream.state``. Default: the learned ones, or 0.

        Raises
        ------
        ValueError
            If a member cannot be streamed: see :meth:`glasscell.Sequential.stream`.
        """
        from glasscell.models.ensemble_stream import EnsembleStream  # noqa: PLC0415 - only where it is used

        stream = EnsembleStream([member.stream(batch) for member in self.members], self.outputs)
        if state is not None:
            stream.reset(state=state)
        return stream

    def infer(self, batch: Batch, states: Any = None, buffers: BufferPool | None = None) -> ForwardPass:
        """Return outputs of a batch in the form of a member's: log-probabilities, logits of bits, or values.

        Parameters
        ----------
        batch : Batch
        states : tuple, optional
            Those of an earlier call, one entry per member.
        buffers : BufferPool, optional
            Not used: each member needs a pool.
        """
        del buffers
        initial = (None,) * len(self.members) if states is None else states
        passes = [member.infer(batch, state, BufferPool()) for member, state in zip(self.members, initial, strict=True)]
        mean = averaging.mean_as_outputs([one.outputs for one in passes], self.outputs)
        return ForwardPass(mean, tuple(one.states for one in passes), None)

    def _over_members(
        self, average: Callable[[Sequence[Array], Outputs], Array], x: Any, batch_size: int, lengths: ArrayLike | None
    ) -> Any:
        """Return an average of the outputs of all members, in the form of the predictions of one."""
        single = self._kind.startswith("Sequence") and _is_single(x)
        batch = np.asarray(x)[None] if single else x
        outputs = [member.predict(batch, batch_size=batch_size, lengths=lengths) for member in self.members]
        if isinstance(outputs[0], list):
            result = [average(entries, self.outputs) for entries in zip(*outputs, strict=True)]
            return result[0] if single else result
        array = average(outputs, self.outputs)
        return array[0] if single else array

    def _check_kind(self, method: str, kind: str) -> None:
        if self._kind != kind:
            raise TypeError(f"{method} needs members that are {kind}, got {self._kind}")

    # Files

    def save(self, path: StrPath) -> None:
        """Write all members to a file, by custom ``….safetensors``; see :func:`glasscell.checkpoint.save`."""
        from glasscell import checkpoint  # noqa: PLC0415 - not paid for by `import glasscell`

        weights = {
            f"{k}.{name}": array for k, member in enumerate(self.members) for name, array in member.to_torch().items()
        }
        config = {"kind": self._kind, "outputs": self.outputs, "members": [member.config for member in self.members]}
        checkpoint.save(checkpoint.Checkpoint(type(self).__name__, config, weights), path)

    @classmethod
    def load(cls, path: StrPath) -> Self:
        """Read an ensemble that :meth:`save` wrote; see :func:`glasscell.checkpoint.load`."""
        from glasscell import checkpoint  # noqa: PLC0415

        return checkpoint.load_as(cls.__name__, cls.from_weights, path)

    @classmethod
    def from_weights(cls, config: Mapping[str, Any], weights: Mapping[str, Array]) -> Self:
        """Return the ensemble that the configuration and the weights of a file describe."""
        kind, configs = config["kind"], config["members"]
        if kind not in OUTPUTS or not isinstance(configs, list) or len(configs) > MAX_MEMBERS:
            raise ValueError(f"members must be {', '.join(OUTPUTS)}, got {kind!r:.100}")
        by_member: dict[str, dict[str, Array]] = {}
        for name, array in weights.items():
            number, _, key = name.partition(".")
            by_member.setdefault(number, {})[key] = array
        if by_member.keys() != set(map(str, range(len(configs)))):
            raise ValueError(f"there are weights for {len(by_member)} members; the configuration has {len(configs)}")
        member_class: Any = getattr(import_module("glasscell.models"), kind)
        members = [member_class.from_weights(entry, by_member[str(k)]) for k, entry in enumerate(configs)]
        return cls(members, outputs=config["outputs"])

    def __len__(self) -> int:
        return len(self.members)

    def __repr__(self) -> str:
        return f"Ensemble({len(self.members)} × {self.members[0]!r}, outputs={self.outputs!r})"


def _common_kind(members: Sequence[Any]) -> str:
    """Return the class of the members by name, if they fit together."""
    kinds = [type(member).__name__ for member in members]
    if "Forecaster" in kinds:
        raise TypeError("members must not be Forecasters: pass them to gc.ForecasterEnsemble")
    for kind in kinds:
        if kind not in OUTPUTS:
            raise TypeError(f"members must be {', '.join(OUTPUTS)}, got {kind}")
    if len({*kinds}) > 1:
        raise TypeError(f"members must be of one class, got {' and '.join(dict.fromkeys(kinds))}")
    if len({str(member.dtype) for member in members}) > 1:
        raise ValueError("members must have equal dtypes, got float32 and float64")
    if kinds[0] in COMMON:
        words, common = COMMON[kinds[0]]
        first, *others = map(common, members)
        if any(other != first for other in others):
            raise ValueError(f"members must have equal {words}")
    return kinds[0]


def _outputs(kind: str, outputs: Outputs | None) -> Outputs:
    """Return what the outputs are, if the argument suits the members."""
    expected = OUTPUTS[kind]
    if outputs is None and expected is None:
        raise ValueError('outputs must be "classes", "bits" or "values" for Sequential models, got None')
    if outputs not in (None, "classes", "bits", "values") or (None not in (outputs, expected) and outputs != expected):
        rule = '"classes", "bits" or "values"' if expected is None else f'"{expected}" for a {kind}'
        raise ValueError(f"outputs must be {rule}, got {outputs!r:.100}")
    result = expected or outputs
    assert result is not None  # noqa: S101 - one of them is not
    return result


def _is_single(x: Any) -> bool:
    """Return whether x is one sequence (T, I) without a batch axis."""
    return hasattr(x, "__array__") and np.ndim(x) == 2
