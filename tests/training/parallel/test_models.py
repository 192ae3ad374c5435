"""Laws: ranks train every model on every kind of data, and read from the file of a text their streams alone."""

import numpy as np
import pytest
from fake_ranks import run_ranks
from parallel_cases import TEXT, text_model
from training_cases import ALL_CASES

import glasscell as gc
from glasscell.data import TextData
from glasscell.data.text.id_storage import StoredIds

MODELS = ("arrays", "text", "labels", "series", "layer", "AMSGrad", "schedule", "copy task")


@pytest.mark.parametrize("name", MODELS)
def test_ranks_train_every_model(name):
    make_data, make_model, options = ALL_CASES[name]

    def run(comm):
        model = make_model()
        history = gc.fit(model, make_data(), 6, comm=comm, compare_ranks_every=1, **options)
        return model.parameters.vector.copy(), repr(history.rows)

    (weights, rows), (other, other_rows) = run_ranks(2, run)
    np.testing.assert_array_equal(weights, other)
    assert rows == other_rows
    assert np.isfinite(weights).all()
    assert (weights != make_model().parameters.vector).any()


def test_a_rank_reads_its_streams_alone(tmp_path, monkeypatch):
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    read, rows = [], StoredIds.rows

    def count(self, starts, length):
        read.append(len(starts))
        return rows(self, starts, length)

    def run(comm):
        data = TextData.from_files(file, steps=7, streams=5, validation=0.2)
        model = text_model()
        history = gc.fit(model, data, 5, comm=comm)
        return model.parameters.vector.copy(), history

    weights, _ = run(None)
    monkeypatch.setattr(StoredIds, "rows", count)
    results = run_ranks(2, run)
    np.testing.assert_allclose(results[0][0], weights, rtol=0, atol=1e-12)
    assert sorted(read) == [2, 2, 3, 3, 5, 5]  # training, validation, and the first batch, which is compared


def test_data_whose_batches_are_overridden_are_read_whole():
    class Reversed(TextData):
        def batches(self, size, rng, dtype):
            for batch in super().batches(size, rng, dtype):
                yield batch._replace(inputs=batch.inputs[::-1], targets=batch.targets[::-1])

    def run(comm):
        model = text_model()
        gc.fit(model, Reversed(TEXT, steps=7, streams=5, validation=0.2), 5, comm=comm)
        return model.parameters.vector.copy()

    weights = run(None)
    for other in run_ranks(2, run):
        np.testing.assert_allclose(other, weights, rtol=0, atol=1e-12)
