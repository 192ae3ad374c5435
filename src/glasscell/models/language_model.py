"""A model of text: characters, bytes or words in, the distribution of the next one out."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from glasscell.core.types import Array
from glasscell.data.text.vocabulary import Vocabulary
from glasscell.layers import LSTM, Dropout, Embedding, Initializer, Linear, Seed
from glasscell.models.sequential import Sequential
from glasscell.validation import as_generator, boolean, positive_integer, positive_number, probability
from glasscell.weight_layouts import check_lstm_sizes, check_shapes

if TYPE_CHECKING:
    from glasscell.models.language_scores import Score
    from glasscell.trace.trace import Trace

TITLE_LENGTH = 40  # characters of a text in a title


class LanguageModel(Sequential):
    """Embedding, stacked LSTM and softmax readout that predict the next symbol of a text.

    Parameters
    ----------
    vocabulary : Vocabulary
        V symbols, such as ``data.vocabulary`` of a :class:`glasscell.data.TextData`.
    embedding_size, hidden_size, num_layers : int
        E, H and L.
    dropout : float
        Probability of dropout between the layers of the LSTM, in training.
    output_dropout : float, optional
        Probability of dropout on the outputs of the last layer, in training. Default: that of `dropout`.
    tied : bool
        Whether embedding and readout share one matrix: Press & Wolf (2017). Requires E = H.
    initial_range : float, optional
        All weights and biases are drawn from the uniform distribution on ±initial_range, as in Zaremba et al. (2014).
        Default: the distributions of the layers; with `tied`, a normal distribution of variance 1/E for the matrix.
    initializer, forget_bias
        As in :class:`glasscell.LSTM`; without effect if `initial_range` is passed.
    dtype : float32 or float64
    seed : int or numpy.random.Generator, optional
        None draws nothing: all weights are 0.

    Attributes
    ----------
    vocabulary : Vocabulary

    Examples
    --------
    >>> from glasscell.data import TextData
    >>> data = TextData("hello world. " * 100, steps=10, streams=4)
    >>> model = LanguageModel(data.vocabulary, hidden_size=16)
    >>> text = "".join(model.sample("hello", 20))  # not yet trained
    >>> len(text)
    20
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        embedding_size: int = 64,
        hidden_size: int = 128,
        num_layers: int = 2,
        *,
        dropout: float = 0.0,
        output_dropout: float | None = None,
        tied: bool = False,
        initial_range: float | None = None,
        initializer: Initializer = "orthogonal",
        forget_bias: float = 1.0,
        dtype: DTypeLike = np.float32,
        seed: Seed | None = 0,
    ) -> None:
        if not isinstance(vocabulary, Vocabulary):
            raise TypeError(f"vocabulary must be a glasscell.data.Vocabulary, got a {type(vocabulary).__name__}")
        V, E = len(vocabulary), positive_integer("embedding_size", embedding_size)
        H = positive_integer("hidden_size", hidden_size)
        if boolean("tied", tied) and E != H:
            raise ValueError(f"embedding_size must be hidden_size for tied=True, got {E} and {H}")
        output_rate = probability("output_dropout", dropout if output_dropout is None else output_dropout)
        rng = None if seed is None else as_generator(seed)
        options: dict[str, Any] = {"dtype": dtype, "seed": rng}
        lstm_options = options | {"initializer": initializer, "forget_bias": forget_bias, "dropout": dropout}
        layers: dict[str, Any] = {
            "embedding": Embedding(V, E, **options),
            "lstm": LSTM(E, H, positive_integer("num_layers", num_layers), **lstm_options),
            **({"dropout": Dropout(output_rate)} if output_rate else {}),
            "readout": Linear(H, V, **options),
        }
        if tied:
            layers["embedding"].parameters["weight"][...] *= E**-0.5
        ties = {"readout.weight": "embedding.weight"} if tied else None
        super().__init__(list(layers.values()), list(layers), ties=ties, seed=None)
        self.vocabulary = vocabulary
        if initial_range is not None and rng is not None:
            vector, bound = self.parameters.vector, positive_number("initial_range", initial_range)
            vector[:] = rng.uniform(-bound, bound, vector.shape)

    @property
    def embedding(self) -> Embedding:
        """The vectors of the symbols."""
        return self._layers[0]  # type: ignore[return-value] # the constructor puts it there

    @property
    def lstm(self) -> LSTM:
        """The LSTM."""
        return self._layers[1]  # type: ignore[return-value]

    @property
    def readout(self) -> Linear:
        """The map from its hidden states to logits."""
        return self._layers[-1]  # type: ignore[return-value]

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.lstm.hidden_size

    @property
    def tied(self) -> bool:
        """Whether embedding and readout share one matrix."""
        return bool(self.ties)

    @property
    def output_dropout(self) -> float:
        """Probability of dropout on the outputs of the last layer."""
        layer = self._layers[2]
        return layer.rate if isinstance(layer, Dropout) else 0.0

    def sample(
        self,
        prompt: str | bytes = "",
        length: int = 1000,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: Seed | None = 0,
    ) -> Iterator[str]:
        """Continue a text, one symbol at a time.

        Parameters
        ----------
        prompt : str or bytes
            The text to continue, which is not repeated. Default: a line feed, or the first symbol if the vocabulary
            has none.
        length : int
            Number of symbols to draw.
        temperature : float
            Logits are divided by it: below 1 likely symbols become more likely; 0 always takes the most likely.
        top_k : int, optional
            Draw from the k most likely symbols only. Default: all.
        seed : int or numpy.random.Generator, optional
            None: different at every call.

        Yields
        ------
        str
            The text that each symbol completes. The unknown symbol is never drawn.

        Raises
        ------
        TypeError, ValueError
            At the call: an argument out of range, or a symbol of the prompt that is not in the vocabulary.
        """
        from glasscell.models.text_sampling import sample_text  # noqa: PLC0415 - only where it is used

        return sample_text(lambda: self.stream().push, self.vocabulary, prompt, length, temperature, top_k, seed)

    def score(self, text: str | bytes, *, streams: int = 1, passages: int = 5, width: int = 60) -> Score:
        """Return how well the model predicts a text.

        Parameters
        ----------
        text : str or bytes
        streams : int
            The text is divided into this many parts, which are read in parallel. Each part begins with the initial
            state, and its first symbol is not predicted.
        passages : int
            Number of the most surprising passages, which do not overlap.
        width : int
            Symbols of a passage.

        Returns
        -------
        glasscell.models.language_scores.Score

        Raises
        ------
        ValueError
            If a symbol is not in the vocabulary, or the text has fewer than two symbols per part.
        """
        from glasscell.data.text.id_storage import StoredIds  # noqa: PLC0415 - only where it is used
        from glasscell.models.language_scores import score_ids  # noqa: PLC0415

        ids = StoredIds(self.vocabulary.encode(text).astype(self.vocabulary.id_dtype))
        return score_ids(self, self.vocabulary, ids, streams=streams, passages=passages, width=width)

    def trace(self, x: str | bytes | ArrayLike, y: ArrayLike | None = None, **options: Any) -> Trace:
        """Record every gate, state and gradient while the model reads a text.

        Parameters
        ----------
        x : str, bytes, or array of ids (T,) or (B, T)
            The targets of a text are its next symbols: the trace has one step for each symbol but the last.
        y : array of ids, optional
            Targets of ids.
        **options
            As in :meth:`glasscell.Sequential.trace`.

        Returns
        -------
        glasscell.trace.Trace
            ``step_names`` are the symbols, ``output_names`` those of the vocabulary.
        """
        names = self.vocabulary.names
        defaults: dict[str, Any] = {"output_names": names, "loss": "categorical_cross_entropy"}
        if isinstance(x, str | bytes):
            if y is not None:
                raise ValueError("y must be left out for a text, whose targets are its next symbols")
            ids = self.vocabulary.encode(x)
            if len(ids) < 2:  # one step and its target
                raise ValueError(f"x must have at least two {self.vocabulary.unit}, got {len(ids)}")
            head = self.vocabulary.decode(ids[:TITLE_LENGTH]).replace("\n", "↵")
            head += "…" if len(ids) > TITLE_LENGTH else ""
            defaults |= {"title": f"A language model of {self.hidden_size} units reads “{head}”"}
            defaults |= {"step_names": [names[k] for k in ids[:-1]]}
            x, y = ids[:-1], ids[1:]
        return super().trace(x, y, **(defaults | options))

    def adapt(self, data: Any) -> None:
        """Check that a text has the vocabulary of the model: `fit` calls this before the first update.

        Raises
        ------
        ValueError
            If its vocabulary is another one, whose ids are those of other symbols.
        """
        vocabulary = getattr(data, "vocabulary", self.vocabulary)
        if vocabulary != self.vocabulary:
            raise ValueError(f"data must have the vocabulary of the model, {self.vocabulary}, got {vocabulary}")

    @property
    def training_defaults(self) -> dict[str, Any]:
        """Arguments of :func:`glasscell.fit` for texts, if they are not passed; see docs/text.md."""
        from glasscell.core.optimizers import Adam  # noqa: PLC0415 - only training needs it

        return {"epochs": 10, "batch_size": 50, "optimizer": Adam(0.005), "schedule": "cosine", "clip_norm": 1.0}

    @property
    def config(self) -> dict[str, Any]:
        """Sizes, options and vocabulary, as in files."""
        return {
            "embedding_size": self.embedding.embedding_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.lstm.num_layers,
            "dropout": self.lstm.options.dropout,
            "output_dropout": self.output_dropout,
            "tied": self.tied,
            "vocabulary": self.vocabulary.config,
        }

    @classmethod
    def from_weights(cls, config: Mapping[str, Any], weights: Mapping[str, Array]) -> Self:
        """Return the model that :attr:`config` and :meth:`to_torch` describe."""
        sizes = {name: value for name, value in config.items() if name != "vocabulary"}
        vocabulary = Vocabulary.from_config(config["vocabulary"])
        E, matrix = positive_integer("embedding_size", sizes.get("embedding_size", "missing")), "embedding.weight"
        check_shapes({name: weights[name].shape for name in weights if name == matrix}, {matrix: (len(vocabulary), E)})
        check_lstm_sizes(sizes, weights)
        model = cls(vocabulary, **sizes, dtype=next(iter(weights.values())).dtype, seed=None)
        model._load_named_weights(weights)
        if model.tied and not np.array_equal(weights["readout.weight"], weights["embedding.weight"]):
            raise ValueError("the weights 'readout.weight' must equal those with which they are tied")
        return model

    def __repr__(self) -> str:
        tied = ", tied=True" if self.tied else ""
        sizes = f"{self.embedding.embedding_size}, {self.hidden_size}, num_layers={self.lstm.num_layers}"
        return f"LanguageModel({self.vocabulary}, {sizes}{tied}, dtype={self.dtype})"
