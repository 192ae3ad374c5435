"""Several forecasters of one series, whose mean is better than one of them and whose differences widen intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array
from glasscell.data.series.features import Observations
from glasscell.data.series.series import Values
from glasscell.models.forecast import ForecastingModel
from glasscell.models.forecaster import Forecaster
from glasscell.models.forecaster_files import RESIDUALS, check_residuals

if TYPE_CHECKING:
    from glasscell.atomic_files import StrPath

MAX_MEMBERS = 1000


class ForecasterEnsemble(ForecastingModel):
    """The mean of several forecasters, such as some that differ in their seeds: Lakshminarayanan et al. (2017).

    Train each member, then calibrate the ensemble. Intervals: "ensemble" are normal, with the variance between the
    members plus the mean squared error of the calibration; "quantile" and "conformal" use the mean of the members'
    quantiles.

    Parameters
    ----------
    members : sequence of Forecaster
        Two to 1,000, which forecast the same: equal horizons, series, exogenous inputs, `log` and quantiles.

    Examples
    --------
    >>> import glasscell as gc
    >>> y = 10 + np.sin(np.arange(200) * 2 * np.pi / 12)
    >>> members = [gc.Forecaster(horizon=12, hidden_size=8, seed=seed) for seed in range(3)]
    >>> for seed, member in enumerate(members):
    ...     history = gc.fit(member, member.training_data(y, held_out=40), updates=3, seed=seed)
    >>> model = gc.ForecasterEnsemble(members)
    >>> model.calibrate(y, steps=40)
    >>> model.forecast(y, interval="ensemble").upper.shape
    (12,)
    """

    def __init__(self, members: Sequence[Forecaster]) -> None:
        self.members = tuple(members)
        if len(self.members) < 2 or not all(isinstance(member, Forecaster) for member in self.members):
            raise TypeError(f"members must be a list of at least two Forecasters, got {members!r:.100}")
        if len(self.members) > MAX_MEMBERS:
            raise ValueError(f"members must be at most {MAX_MEMBERS} Forecasters, got {len(self.members)}")
        first, *others = map(_common, self.members)
        if any(other != first for other in others):
            raise ValueError("members must have equal horizons, series, exogenous inputs, log, quantiles and dtypes")
        self.features = max((member.features for member in self.members), key=lambda features: features.first)
        self.quantiles = self.members[0].quantiles

    @property
    def _weights_dtype(self) -> np.dtype[np.floating]:
        return self.members[0].dtype

    def _members_from(self, series: Observations, origins: NDArray[np.intp], horizon: int) -> Values:
        """Return the outputs of each member from each origin, (M, n, horizon, C, Q), on the working scale."""
        return np.concatenate([member._members_from(series, origins, horizon) for member in self.members])  # noqa: SLF001

    def save(self, path: StrPath) -> None:
        """Write all members and the calibration to a file, by custom ``….safetensors``."""
        from glasscell import checkpoint  # noqa: PLC0415 - not paid for by `import glasscell`

        weights = {
            f"{k}.{name}": array for k, member in enumerate(self.members) for name, array in member.to_torch().items()
        }
        if self.residuals is not None:
            weights[RESIDUALS] = self.residuals.astype(self.members[0].dtype)
        config = {"members": [member.config for member in self.members]}
        checkpoint.save(checkpoint.Checkpoint(type(self).__name__, config, weights), path)

    @classmethod
    def load(cls, path: StrPath) -> Self:
        """Read a model that :meth:`save` wrote; see :func:`glasscell.checkpoint.load`."""
        from glasscell import checkpoint  # noqa: PLC0415

        return checkpoint.load_as(cls.__name__, cls.from_weights, path)

    @classmethod
    def from_weights(cls, config: Mapping[str, Any], weights: Mapping[str, Array]) -> Self:
        """Return the ensemble that the configuration and the weights of a file describe."""
        by_member: dict[str, dict[str, Array]] = {}
        remaining = dict(weights)
        residuals = remaining.pop(RESIDUALS, None)
        for name, array in remaining.items():
            number, _, key = name.partition(".")
            by_member.setdefault(number, {})[key] = array
        configs = config["members"]
        if by_member.keys() != set(map(str, range(len(configs)))) or len(configs) > MAX_MEMBERS:
            raise ValueError(f"there are weights for {len(by_member)} members; the configuration says {len(configs)}")
        model = cls([Forecaster.from_weights(entry, by_member[str(k)]) for k, entry in enumerate(configs)])
        if residuals is not None:
            model.residuals = check_residuals(residuals, model)
        return model

    def __repr__(self) -> str:
        return f"ForecasterEnsemble({list(self.members)})"


def _common(member: Forecaster) -> tuple[Any, ...]:
    """Return what all members must have in common."""
    f = member.features
    return f.horizon, f.targets, f.known, f.past, f.transformation.log, member.quantiles, member.dtype
