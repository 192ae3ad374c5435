"""Law: the generators draw what Hochreiter & Schmidhuber (1997) describe, the same for the same seed."""

import pickle
import re
from collections import Counter

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.data.metrics import METRICS
from glasscell.layers import FinalState
from glasscell.tasks import Adding, EmbeddedReber, TemporalOrder, adding, embedded_reber, temporal_order

TASKS = [Adding(20), Adding(), TemporalOrder(2, 30), TemporalOrder(), TemporalOrder(3), EmbeddedReber(8)]
each_task = pytest.mark.parametrize("task", TASKS, ids=repr)

# An acceptor written as a regular expression, from the graph of the paper.
LOWER = "T*V(PXT*V)*(PS|V)"  # from the state after P
REBER = f"B(TS*X(X{LOWER}|S)|P{LOWER})E"
EMBEDDED = re.compile(f"B(T{REBER}T|P{REBER}P)E")


def arrays(batch):
    return [part for part in batch[:4] if part is not None]


@each_task
def test_the_same_seed_draws_the_same_sequences(task):
    for one, same, other in zip(*(arrays(task.batch(9, np.random.default_rng(s))) for s in (1, 1, 2)), strict=True):
        np.testing.assert_array_equal(one, same)
        assert one.shape != other.shape or (one != other).any() or one.ndim == 1
    stream = task.batches(3, np.random.default_rng(5), np.float64)
    first, second = next(stream), next(stream)
    assert first.inputs.dtype == np.float64
    assert first.inputs.shape != second.inputs.shape or (first.inputs != second.inputs).any()


@each_task
def test_evaluation_sequences_are_fixed_by_the_seed(task):
    again = pickle.loads(pickle.dumps(task))  # noqa: S301 - our own bytes
    assert again == task
    for name in ("test_batch", "validation"):
        one, same = ([getattr(t, name)(*[2] * (name == "validation"))] for t in (task, again))
        one, same = (x[0][0] if name == "validation" else x[0] for x in (one, same))
        for a, b in zip(arrays(one), arrays(same), strict=True):
            np.testing.assert_array_equal(a, b)
    other = type(task)(**{**vars(task), "seed": 1}) if not isinstance(task, EmbeddedReber) else EmbeddedReber(8, 1)
    assert other.test_batch().inputs.shape != one.inputs.shape or (other.test_batch().inputs != one.inputs).any()


@each_task
def test_steps_after_the_end_are_zero(task, rng):
    batch = task.batch(50, rng, np.float64)
    ended = np.arange(batch.inputs.shape[1]) >= batch.lengths[:, None]
    assert ended.any()
    assert not batch.inputs[ended].any()
    assert batch.inputs.shape[1] == batch.lengths.max()
    assert batch.inputs.transpose(1, 2, 0).flags.c_contiguous  # as layers need them
    if batch.weights is not None:
        np.testing.assert_array_equal(batch.weights, ~ended)


@each_task
def test_no_test_sequence_occurs_in_validation_or_training(task, rng):
    parts = [task.batch(400, rng), task.validation(1)[0], task.test_batch()]
    texts = [{x[:n].tobytes() for x, n in zip(part.inputs, part.lengths, strict=True)} for part in parts]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]


@each_task
def test_a_batch_of_no_sequences(task, rng):
    batch = task.batch(0, rng)
    assert len(batch.inputs) == len(batch.targets) == len(batch.lengths) == 0


@each_task
def test_fit_trains_on_it(task):
    per_step = isinstance(task, EmbeddedReber)
    layers = [gc.LSTM(task.input_size, 8), *[FinalState()] * (not per_step), gc.Linear(8, task.output_size)]
    history = gc.fit(gc.Sequential(layers), task, updates=3, batch_size=4)
    assert 0 <= history["validation_sequence_accuracy"][-1] <= 1


# Adding


@pytest.mark.parametrize("T", [20, 100])
def test_the_target_is_the_scaled_sum_of_the_marked_numbers(T, rng):
    batch = Adding(T).batch(3000, rng, np.float64)
    numbers, markers = batch.inputs[..., 0], batch.inputs[..., 1]
    assert set(np.unique(markers)) == {-1, 0, 1}
    first_marked, firsts, seconds = 0, Counter(), Counter()
    for x, m, n, y in zip(numbers, markers, batch.lengths, batch.targets[:, 0], strict=True):
        assert T <= n <= T + T // 10
        assert m[0] == m[n - 1] == -1
        assert (m == -1).sum() == 2
        marked = np.flatnonzero(m == 1)
        first_marked += marked.size == 1
        assert marked.size in (1, 2)
        assert y == pytest.approx(0.5 + x[marked].sum() / 4, abs=1e-12)
        assert marked.min() < 10 or marked.size == 1
        assert marked.max() < T // 2
        firsts[marked.min()] += 1
        seconds[marked.max()] += 1
    assert first_marked / 3000 == pytest.approx(0.1 + 0.9 / (T // 2 - 1), abs=0.03)
    assert set(seconds) >= set(range(10, T // 2)) - {T // 2 - 1} if T == 20 else len(seconds) == T // 2 - 1
    assert np.abs(numbers).max() <= 1
    assert numbers[:, :T].mean() == pytest.approx(0, abs=0.02)
    assert (numbers[:, :T] ** 2).mean() == pytest.approx(1 / 3, abs=0.02)
    assert set(batch.lengths) == set(range(T, T + T // 10 + 1))


def test_adding_by_its_criterion_and_baseline(rng):
    task = Adding(30)
    batch = task.batch(4000, rng, np.float64)
    errors = rng.uniform(0, 0.08, batch.targets.shape) * rng.choice([-1, 1], batch.targets.shape)
    count = adding.sequence_accuracy(batch.targets + errors, batch)
    assert tuple(count) == ((np.abs(errors) < 0.04).sum(), 4000)
    constant = np.full_like(batch.targets, 0.5)
    assert task.memoryless_baseline_loss(batch) == pytest.approx(
        gc.core.losses.squared_error(constant, batch.targets)[0]
    )
    assert task.memoryless_baseline_loss(batch) == pytest.approx((2 - 0.1 - 0.9 / 14) / 48, rel=0.05)


# Temporal order


@pytest.mark.parametrize(("relevant", "T"), [(2, 100), (3, 100), (2, 30), (3, 47)])
def test_the_class_is_the_order_of_the_relevant_symbols(relevant, T, rng):
    task = TemporalOrder(relevant, T)
    batch = task.batch(3000, rng)
    ranges = {2: [(10, 20), (50, 60)], 3: [(10, 20), (33, 43), (66, 76)]}[relevant]
    places = [set() for _ in ranges]
    for string, y, n in zip(task.strings(batch), batch.targets, batch.lengths, strict=True):
        assert len(string) == n
        assert T <= n <= T + T // 10
        assert re.fullmatch("E[abcdXY]+B", string)
        found = [(k + 1, symbol) for k, symbol in enumerate(string) if symbol in "XY"]  # counted from 1
        assert "".join(symbol for _, symbol in found) == task.class_names[y]
        for seen, (position, _) in zip(places, found, strict=True):
            seen.add(position)
    assert [(min(seen), max(seen)) for seen in places] == [(low * T // 100, high * T // 100) for low, high in ranges]
    share = np.bincount(batch.targets, minlength=task.output_size) / 3000
    np.testing.assert_allclose(share, 1 / task.output_size, atol=0.04)
    symbols = batch.inputs.sum(axis=(0, 1))[:4]
    np.testing.assert_allclose(symbols / symbols.sum(), 0.25, atol=0.01)
    np.testing.assert_array_equal(batch.inputs.sum(axis=2), np.arange(batch.inputs.shape[1]) < batch.lengths[:, None])


def test_temporal_order_by_its_criterion_and_baseline(rng):
    task = TemporalOrder(3)
    batch = task.batch(500, rng)
    logits = rng.normal(0, 1, (500, 8))
    logits[np.arange(500), batch.targets] += 3
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    errors = np.abs(p - np.eye(8)[batch.targets]).max(axis=1)
    assert 50 < (errors < 0.3).sum() < 450
    assert tuple(temporal_order.sequence_accuracy(logits, batch)) == ((errors < 0.3).sum(), 500)
    assert temporal_order.is_correct(1e4 * logits, batch.targets).sum() <= METRICS["accuracy"](logits, batch)[0]
    equal = np.zeros((500, 8))
    loss = gc.core.losses.categorical_cross_entropy(equal, batch.targets)[0]
    assert task.memoryless_baseline_loss(batch) == pytest.approx(loss)


@pytest.mark.parametrize("relevant", [2, 3])
def test_temporal_order_is_solved_by_a_program_and_by_a_trained_lstm(relevant, rng):
    task = TemporalOrder(relevant, 30)
    batch = task.test_batch(500)
    orders = [re.sub("[^XY]", "", string) for string in task.strings(batch)]
    outputs = 30.0 * np.eye(task.output_size)[[task.class_names.index(order) for order in orders]]
    assert temporal_order.is_correct(outputs, batch.targets).all()
    lstm = gc.LSTM(8, 16, forget_bias="chrono", chrono_steps=33)
    model = gc.Sequential([lstm, FinalState(), gc.Linear(16, task.output_size)])
    gc.fit(model, task, 150, optimizer=gc.Adam(0.03), schedule=gc.schedules.cosine(150), evaluate_every=150)
    outputs = model(batch.inputs, lengths=batch.lengths)
    assert gc.core.losses.categorical_cross_entropy(outputs, batch.targets)[0] < 0.2
    assert temporal_order.is_correct(outputs, batch.targets).mean() > 0.9


# Embedded Reber grammar


@pytest.mark.parametrize("seed", range(3))
def test_every_string_is_accepted_by_an_independent_automaton(seed):
    task = EmbeddedReber(seed=seed)
    for strings in (task.training_strings, task.validation_strings, task.test_strings):
        assert len(strings) == 256
        assert all(EMBEDDED.fullmatch(string) for string in strings)
        assert all(map(task.is_string, strings))
    assert len(set(task.validation_strings) | set(task.test_strings)) == 512
    assert not (set(task.validation_strings) | set(task.test_strings)) & set(task.training_strings)


def test_changed_strings_are_rejected_as_by_the_independent_automaton(rng):
    strings, accepted = EmbeddedReber(300).training_strings, 0
    for string in strings:
        k = rng.integers(len(string))
        kind = rng.integers(3)
        symbol = "BTPSXVE"[rng.integers(7)]
        changed = string[:k] + symbol * int(kind > 0) + string[k + (kind < 2) :]  # deleted, replaced, inserted
        accepted += EmbeddedReber.is_string(changed)
        assert EmbeddedReber.is_string(changed) == bool(EMBEDDED.fullmatch(changed))
    assert 0 < accepted < 150
    assert not EmbeddedReber.is_string("")
    assert not EmbeddedReber.is_string("BTBPVVETEE")
    assert not EmbeddedReber.is_string("BTBPVVETQ")


def test_all_short_strings_are_those_of_the_independent_automaton():
    """The set of strings of at most 11 symbols, enumerated from the transition table."""
    found, partial = set(), {"": 0}
    for _ in range(11):
        partial = {s + c: k for s, state in partial.items() for c, k in embedded_reber.GRAMMAR[state].items()}
        found |= {s for s, state in partial.items() if not embedded_reber.GRAMMAR[state]}
    assert len(found) == 2 * len({s[2:-2] for s in found}) > 10
    assert all(map(EMBEDDED.fullmatch, found))
    inner = {"BTXSE", "BTSXSE", "BTSSXSE", "BPVVE", "BPTVVE", "BPTTVVE", "BPVPSE", "BPTVPSE", "BTXXVVE"}
    assert {s[2:-2] for s in found} == inner


def test_allowed_symbols_are_those_that_continue_some_string(rng):
    """A symbol is allowed after a prefix if a string of the grammar begins with both, for prefixes of drawn strings."""
    drawn = {EmbeddedReber.draw_string(rng) for _ in range(4000)}
    prefixes = {s[:k] for s in drawn for k in range(1, len(s) + 1)}
    strings = [s for s in drawn if len(s) <= 12]
    batch = EmbeddedReber().make_batch(strings)
    allowed = embedded_reber.allowed_symbols(batch)
    for string, row in zip(strings, allowed, strict=True):
        for t in range(len(string) - 1):
            assert {c for c, yes in zip("BTPSXVE", row[t], strict=True) if yes} == {
                c for c in "BTPSXVE" if string[: t + 1] + c in prefixes
            }


def test_both_choices_are_equally_frequent(rng):
    second = Counter(EmbeddedReber.draw_string(rng)[1] + EmbeddedReber.draw_string(rng)[3] for _ in range(1000))
    assert set(second) == {"TT", "TP", "PT", "PP"}
    assert all(abs(count - 250) < 60 for count in second.values())


def test_reber_by_its_criterion(rng):
    task = EmbeddedReber(40)
    batch = task.test_batch(np.float64)
    allowed = embedded_reber.allowed_symbols(batch)
    outputs = np.where(allowed, 1.0, 0.0) + rng.uniform(0, 0.9, allowed.shape)
    assert tuple(embedded_reber.sequence_accuracy(outputs, batch)) == (40, 40)
    outputs[np.arange(batch.inputs.shape[1]) >= batch.lengths[:, None]] = rng.normal()  # padding does not count
    assert embedded_reber.is_correct(outputs, batch).all()
    t = batch.lengths - 1  # after the last symbol but one, only E is allowed
    outputs[3, t[3], 0] = 5
    assert np.flatnonzero(~embedded_reber.is_correct(outputs, batch)).tolist() == [3]


def test_reber_inputs_and_targets_by_hand():
    inputs, targets, weights, lengths = EmbeddedReber().make_batch(["BTBPVVETE", "BPBTSXSEPE"])[:4]
    assert ["".join("BTPSXVE"[k] for k in row) for row in inputs.argmax(axis=2)] == ["BTBPVVETB", "BPBTSXSEP"]
    assert inputs.sum(axis=2).tolist() == weights.tolist() == [[1] * 8 + [0], [1] * 9]
    assert ["".join("BTPSXVE"[k] for k in row) for row in targets] == ["TBPVVETEB", "PBTSXSEPE"]
    assert lengths.tolist() == [8, 9]
    with pytest.raises(ValueError, match="strings must belong to the embedded Reber grammar, got 'BTBPVVEPE'"):
        EmbeddedReber().make_batch(["BTBPVVEPE"])


def test_losses_of_predictors_with_and_without_memory():
    task = EmbeddedReber(30)
    training = task.make_batch(task.training_strings)
    pairs = Counter(s[k : k + 2] for s in task.training_strings for k in range(len(s) - 1))
    singles = Counter()
    for pair, count in pairs.items():
        singles[pair[0]] += count
    expected = -sum(count * np.log(count / singles[pair[0]]) for pair, count in pairs.items()) / sum(pairs.values())
    assert task.memoryless_baseline_loss(training) == pytest.approx(expected)
    # Every T, P, S, X and V is one of two allowed symbols, except for the last T or P.
    choices = sum(1 for s in task.training_strings for k in range(1, len(s)) if s[k] in "TPSXV" and k != len(s) - 2)
    assert task.loss_with_memory(training) == pytest.approx(np.log(2) * choices / sum(pairs.values()))
    logits = np.log(embedded_reber.allowed_symbols(training) + 1e-9)
    loss = gc.core.losses.categorical_cross_entropy(logits, training.targets, training.weights)[0]
    assert task.loss_with_memory(training) == pytest.approx(loss, abs=1e-6)


# Options


@loop_over(
    ("make", "error", "message"),
    [
        (lambda: Adding(19), ValueError, "min_length must be at least 20, got 19"),
        (lambda: Adding(20.0), TypeError, "min_length must be an integer, got 20.0"),
        (lambda: Adding(seed=-1), ValueError, "seed must be 0 or more, got -1"),
        (lambda: TemporalOrder(4), ValueError, "relevant must be one of 2, 3, got 4"),
        (lambda: TemporalOrder(2, 29), ValueError, "min_length must be at least 30, got 29"),
        (lambda: EmbeddedReber(0), ValueError, "num_strings must be at least 1, got 0"),
        (lambda: EmbeddedReber(seed=1.5), TypeError, "seed must be an integer, got 1.5"),
    ],
)
def test_options_are_checked(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_the_last_three_symbols_are_sufficient_for_all_predictions_but_one(rng):
    strings = sorted({EmbeddedReber.draw_string(rng) for _ in range(1500)})
    batch = EmbeddedReber().make_batch(strings)
    seen, conflicts = {}, set()
    for string, allowed in zip(strings, embedded_reber.allowed_symbols(batch), strict=True):
        for t in range(len(string) - 1):
            same = seen.setdefault(string[max(0, t - 2) : t + 1], allowed[t].tolist())
            if same != allowed[t].tolist():
                conflicts.add(len(string) - t)
    assert conflicts == {3}  # the step before the last T or P
