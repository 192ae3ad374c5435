"""Law: a training that was stopped at any update goes on from its checkpoints to the same bits."""

import multiprocessing
import os
import re
import signal
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from case_loops import loop_over
from training_cases import ALL_CASES, ERROR, array_data, batches, copy_model, copy_task, regressor

import glasscell as gc
from glasscell.core.packages import is_installed
from glasscell.training import (
    CheckpointFolder,
    CheckpointWarning,
    Training,
    TrainingOptions,
    checkpointing,
    checkpoints,
    has_checkpoint,
)
from glasscell.training.checkpoint_files import read_manifest
from glasscell.training.folder_lock import FolderLock, lock_descriptor

PAGE = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text("utf-8")
ENGINES = ["numpy", *["numba"] * is_installed("numba")]
ARGUMENTS = {"updates": 12, "seed": 5, "evaluate_every": 3, **ERROR}


def stop_after(update):
    return [lambda state: state.history.updates == update]


def names(path):
    return sorted(file.name for file in (path / "checkpoints").iterdir())


def content(path):
    return {file: file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def run(path, model=None, **options):
    """Train the regressor with checkpoints, and return its model and history."""
    model = regressor() if model is None else model
    return model, gc.fit(model, array_data(), **ARGUMENTS | {"checkpoint": path, "checkpoint_every": 4} | options)


def bits(model):
    return model.parameters.vector.tobytes()


@pytest.fixture(scope="module")
def whole():
    """The same training without checkpoints: its model and history."""
    model = regressor()
    return model, gc.fit(model, array_data(), **ARGUMENTS)


@pytest.fixture
def stopped(tmp_path):
    """Return the folder of a run that was stopped after update 6, with checkpoints 4 and 6."""
    run(tmp_path, callbacks=stop_after(6))
    return tmp_path


# Exactness


@loop_over("case", ALL_CASES)
def test_a_stopped_training_goes_on_to_the_same_bits(case, tmp_path):
    make_data, make_model, options = ALL_CASES[case]
    arguments = {"updates": 17, "seed": 5, **options}
    whole_model, stops = make_model(), (5, 11)
    whole = gc.fit(whole_model, make_data(), **arguments)
    arguments |= {"checkpoint": tmp_path, "checkpoint_every": 4}
    for number, update in enumerate((*stops, 99)):  # one run, stopped twice
        model = make_model()
        history = gc.fit(model, make_data(), callbacks=stop_after(update), resume=number > 0, **arguments)
        assert history.updates == min(update, whole.updates)
        if history == whole:
            break
        assert read_manifest(tmp_path)["state"] == "interrupted"
    assert history == whole
    assert repr(history.rows) == repr(whole.rows)  # of the same types
    assert bits(model) == bits(whole_model)
    assert read_manifest(tmp_path)["state"] == "finished"
    assert not {"lock"} & {*names(tmp_path)}


@pytest.mark.parametrize("engine", ENGINES)
def test_each_engine_goes_on_to_the_same_bits(engine, tmp_path):
    def new_model():
        return gc.Sequential([gc.LSTM(3, 16, engine=engine), gc.Linear(16, 2)])

    whole = new_model()
    gc.fit(whole, array_data(), **ARGUMENTS)
    run(tmp_path, new_model(), callbacks=stop_after(5))
    assert read_manifest(tmp_path)["description"]["environment"]["engine"] == engine
    assert bits(run(tmp_path, new_model(), resume=True)[0]) == bits(whole)


def test_another_environment_is_named_in_a_warning(tmp_path, monkeypatch):
    model = gc.Sequential([gc.LSTM(3, 300, engine="numpy"), gc.Linear(300, 2)])  # its products have several threads
    arguments = ARGUMENTS | {"updates": 2, "batch_size": 6}
    monkeypatch.setattr("glasscell.training.description.max_threads", lambda: 2)
    gc.fit(model, array_data(), checkpoint=tmp_path, callbacks=stop_after(1), **arguments)
    monkeypatch.setattr("glasscell.training.description.max_threads", lambda: 1)
    with pytest.warns(CheckpointWarning, match=r"threads 1 instead of 2: results agree .* to rounding only"):
        gc.fit(model, array_data(), checkpoint=tmp_path, resume=True, **arguments)


@pytest.mark.skipif(len(ENGINES) < 2, reason="Numba is not installed")
def test_another_engine_is_named_in_a_warning(tmp_path):
    for engine, resume in (("numba", False), ("numpy", True)):
        model = gc.Sequential([gc.LSTM(3, 16, engine=engine), gc.Linear(16, 2)])
        if resume:
            with pytest.warns(CheckpointWarning, match='engine "numpy" instead of "numba"'):
                run(tmp_path, model, resume=True)
        else:
            run(tmp_path, model, callbacks=stop_after(5))


def test_a_folder_of_another_run_is_read_only(stopped, whole, tmp_path_factory):
    before, other = content(stopped), tmp_path_factory.mktemp("other")
    for checkpoint in (other, None):
        model, history = run(checkpoint, resume=stopped, checkpoint_every=4 if checkpoint else None)
        assert (bits(model), history) == (bits(whole[0]), whole[1])
    assert content(stopped) == before
    assert read_manifest(other)["run"] != read_manifest(stopped)["run"]


def test_a_finished_run_is_returned_at_once_or_extended(tmp_path, whole):
    run(tmp_path)
    before = names(tmp_path)
    model, history = run(tmp_path, resume=True, callbacks=[lambda _: pytest.fail("an update was made")])
    assert (bits(model), history) == (bits(whole[0]), whole[1])
    assert (names(tmp_path), read_manifest(tmp_path)["state"]) == (before, "finished")
    longer = regressor()
    expected = gc.fit(longer, array_data(), **ARGUMENTS | {"updates": 24})
    model, history = run(tmp_path, resume=True, updates=24)
    assert (bits(model), history) == (bits(longer), expected)


def test_a_run_that_runs_again_makes_no_updates(tmp_path):
    options = TrainingOptions(**ARGUMENTS, checkpoint=tmp_path)
    training = Training(regressor(), array_data(), options)
    assert training.run() is training.run()
    assert read_manifest(tmp_path)["state"] == "finished"


# Which checkpoints there are


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    def schedule(update):
        return 1.0 if update < 6 else 300.0  # the loss rises

    _, history = run(tmp_path, updates=20, evaluate_every=2, checkpoint_every=2, schedule=schedule)
    manifest = read_manifest(tmp_path)
    assert names(tmp_path) == [manifest["best"], "000000018.safetensors", "000000020.safetensors", "manifest.json"]
    assert manifest["best"] == f"{history.best_update:09}.safetensors"
    scores = {entry["name"]: entry["score"] for entry in manifest["checkpoints"]}
    assert min(scores, key=scores.get) == manifest["best"]
    with CheckpointFolder(tmp_path) as folder:
        stored = folder.best()
    assert stored.path.name == manifest["best"]
    assert stored.state["best_score"] == scores[manifest["best"]]


def test_checkpoints_take_a_share_of_the_time_by_default(tmp_path, monkeypatch):
    """A clock on which an update takes 10 s and a checkpoint 3 s."""
    clock, written, seconds = [0.0], [], [10]
    save = CheckpointFolder.save

    def slow_save(self, training, *arguments):
        clock[0] += 3
        written.append(training.history.updates)
        return save(self, training, *arguments)

    def update(_):
        clock[0] += seconds[0]

    monkeypatch.setattr(CheckpointFolder, "save", slow_save)
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: clock[0])
    run(tmp_path / "1", updates=185, checkpoint_every=None, evaluate_every=10, callbacks=[update])
    assert written == [0, 30, 60, 90, 120, 150, 180, 185]  # at an evaluation after 300, 600, ... seconds
    written.clear()
    run(tmp_path / "2", updates=185, checkpoint_every=None, evaluate_every=500, callbacks=[update])
    assert written == [0, 60, 120, 180, 185]  # every ten minutes
    written.clear()
    seconds[0] = 99
    run(tmp_path / "3", updates=9, checkpoint_every=None, evaluate_every=3, callbacks=[update])
    assert written == [0, 3, 6, 9]  # exactly a hundredth of 300, 600 and 900 seconds


def test_the_manifest_has_the_seconds_of_the_run_to_a_thousandth(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock[0])

    def update(_):
        clock[0] += 1.2344

    run(tmp_path, updates=3, callbacks=[update])
    assert read_manifest(tmp_path)["seconds"] == 3.703


def test_a_checkpoint_that_was_removed_is_not_listed(tmp_path):
    def update(state):
        if state.history.updates == 9:
            (tmp_path / "checkpoints" / "000000008.safetensors").unlink()

    run(tmp_path, keep_checkpoints=9, callbacks=[update])
    listed = [entry["name"] for entry in read_manifest(tmp_path)["checkpoints"]]
    assert [*listed, "manifest.json"] == names(tmp_path)
    assert "000000008.safetensors" not in listed


def test_a_manifest_lists_each_file_with_size_and_checksum(stopped):
    manifest = read_manifest(stopped)
    assert [entry["updates"] for entry in manifest["checkpoints"]] == [4, 6]
    for entry in manifest["checkpoints"]:
        data = (stopped / "checkpoints" / entry["name"]).read_bytes()
        assert (entry["size"], entry["checksum"]) == (len(data), f"{zlib.crc32(data):08x}")
    assert (manifest["state"], manifest["reason"]) == ("interrupted", "a callback ended the training")


# Damage


def test_a_checkpoint_needs_the_memory_of_the_state_once(tmp_path):
    """Not three times: the file is not put together in memory from its pieces. Some versions of safetensors copy."""
    training = Training(gc.Sequential([gc.LSTM(3, 150), gc.Linear(150, 2)]), array_data(), TrainingOptions(**ARGUMENTS))
    training.step()
    size = sum(array.nbytes for array in (training.model.parameters.vector, *training.optimizer_states[0].values()))
    with CheckpointFolder(tmp_path) as folder:
        folder.save(training)
        tracemalloc.start()
        try:
            written = folder.save(training)
            assert tracemalloc.get_traced_memory()[1] < 2.4 * size
        finally:
            tracemalloc.stop()
    assert written.stat().st_size > size > 1e6


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(stopped, whole):
    newest = stopped / "checkpoints" / "000000006.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    kept = []
    with pytest.warns(CheckpointWarning, match=r"6.safetensors is damaged.*; the checkpoint of update 4 is used"):
        model, history = run(stopped, resume=True, callbacks=[lambda _: kept.append(names(stopped))])
    assert kept[0] == ["000000004.safetensors", "lock", "manifest.json"]  # the damaged one is removed
    assert (bits(model), history) == (bits(whole[0]), whole[1])
    assert names(stopped) == ["000000008.safetensors", "000000012.safetensors", "manifest.json"]


def test_without_a_complete_checkpoint_nothing_is_changed(stopped):
    for number, name in enumerate(("000000004.safetensors", "000000006.safetensors")):
        file = stopped / "checkpoints" / name
        file.write_bytes(file.read_bytes()[: [-1, 100][number]])
    model, before = regressor(), content(stopped)
    weights = bits(model)
    with pytest.raises(ValueError, match=r"resume must be .* a complete checkpoint, got damaged ones: .*6.saf.*4.saf"):
        run(stopped, model, resume=True)
    assert (content(stopped), bits(model)) == (before, weights)


@pytest.mark.parametrize("damage", ["removed", "cut", "flipped", "of something else"])
def test_a_manifest_is_made_again_from_the_checkpoints(stopped, whole, damage):
    file = stopped / "checkpoints" / "manifest.json"
    text = file.read_bytes()
    if damage == "removed":
        file.unlink()
        model, history = run(stopped, resume=True)
    else:
        file.write_bytes({"cut": text[:-99], "flipped": text.replace(b"2", b"3")}.get(damage, b'{"a": 1}'))
        with pytest.warns(CheckpointWarning, match=r"manifest.json is damaged.*; the checkpoint of update 6 is used"):
            model, history = run(stopped, resume=True)
    assert (bits(model), history) == (bits(whole[0]), whole[1])
    assert read_manifest(stopped)["state"] == "finished"


# Illegal arguments, and folders of something else


def wider():
    return gc.Sequential([gc.LSTM(3, 6), gc.layers.Dropout(0.3), gc.Linear(6, 2)])


def other_data():
    data = array_data()
    data.x[3, 2, 1] += 1
    return data


def other_validation():
    data = array_data()
    return data.x, data.y  # all of it


@pytest.mark.parametrize(
    ("make_model", "make_data", "options", "text"),
    [
        (wider, array_data, {}, r"model.parameters.\S+ 24, where it was 20"),
        (regressor, other_data, {}, r'data.x.1 "\w+", where it was "\w+"'),
        (lambda: copy_model(), copy_task, {"loss": None}, r'model.class "CopyLSTM", where it was "Sequential"'),
        (regressor, array_data, {"validation": other_validation()}, "validation.arrays"),
        (regressor, array_data, {"optimizer": gc.Adam(0.1)}, "options.optimizer.learning_rate 0.1, where it was 0.003"),
        (regressor, array_data, {"optimizer": gc.SGD(0.1)}, 'options.optimizer.class "SGD", where it was "Adam"'),
        (regressor, array_data, {"batch_size": 5}, "options.batch_size 5, where it was 4"),
        (regressor, array_data, {"seed": 6}, "options.seed 6, where it was 5"),
        (regressor, array_data, {"tbptt_steps": 2}, "options.tbptt_steps 2, where it was null"),
        (regressor, array_data, {"loss": "binary_cross_entropy"}, "options.loss"),
        (regressor, array_data, {"trainable": ["0.*"]}, "options.groups"),
        (regressor, array_data, {"schedule": gc.schedules.linear(9)}, "options.schedule"),
        (regressor, array_data, {"keep": "best"}, 'options.keep "best", where it was null'),
    ],
)
def test_another_training_is_refused(stopped, make_model, make_data, options, text):
    model, before = make_model(), content(stopped)
    weights = bits(model)
    with pytest.raises(ValueError, match=f"resume must continue the training of .*same arguments, got {text}"):
        gc.fit(model, make_data(), **ARGUMENTS | {"checkpoint": stopped, "resume": True} | options)
    assert (content(stopped), bits(model)) == (before, weights)


def test_another_version_is_refused(stopped, monkeypatch):
    monkeypatch.setattr(gc, "__version__", "9.9")
    with pytest.raises(ValueError, match=r'got version "9.9", where it was "0.1.0"'):
        run(stopped, resume=True)


def test_a_generator_of_another_kind_is_refused(tmp_path):
    options = {"updates": 2, "seed": np.random.Generator(np.random.MT19937(1)), **ERROR}
    gc.fit(regressor(), array_data(), checkpoint=tmp_path, callbacks=stop_after(1), **options)
    model = regressor()
    weights = bits(model)
    with pytest.raises(ValueError, match="seed must be a generator with a MT19937, got a PCG64"):
        gc.fit(model, array_data(), checkpoint=tmp_path, resume=True, **options | {"seed": np.random.default_rng(1)})
    assert bits(model) == weights
    gc.fit(model, array_data(), checkpoint=tmp_path, resume=True, **options)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"checkpoint": None, "checkpoint_every": 2}, ValueError, "checkpoint must be a folder for checkpoint_every"),
        ({"checkpoint": None, "checkpoint_every": None, "resume": True}, ValueError, "a folder for resume=True"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every must be .*, got 0"),
        ({"keep_checkpoints": 0}, ValueError, "keep_checkpoints must be .*, got 0"),
        ({"keep_checkpoints": None}, TypeError, "keep_checkpoints must be .*, got None"),
        ({"resume": True}, FileNotFoundError, "resume must be a folder with a checkpoint, got .*run, which has none"),
        ({"resume": "nowhere"}, FileNotFoundError, "resume must be a folder with .*, got nowhere, which has none"),
        ({"resume": None}, TypeError, "resume must be True, False or a folder, got None"),
        ({"checkpoint": 3}, TypeError, "checkpoint must be a folder, got 3"),
    ],
)
def test_illegal_arguments(tmp_path, monkeypatch, options, error, text):
    monkeypatch.chdir(tmp_path)
    model = regressor()
    weights = bits(model)
    with pytest.raises(error, match=text):
        run(tmp_path / "run", model, **options)
    assert (content(tmp_path), [*tmp_path.iterdir()], bits(model)) == ({}, [], weights)


def test_a_run_is_not_overwritten(stopped):
    before = content(stopped)
    with pytest.raises(FileExistsError, match=r"checkpoint must be a folder without an earlier run, got .*resume=True"):
        run(stopped)
    assert content(stopped) == before


def test_a_run_without_updates_is_begun_again(tmp_path, whole):
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, callbacks=[lambda _: 1 / 0])
    assert names(tmp_path) == ["000000000.safetensors", "manifest.json"]
    assert read_manifest(tmp_path)["reason"] == "ZeroDivisionError: division by zero"
    first = read_manifest(tmp_path)["run"]
    assert run(tmp_path)[1] == whole[1]
    second = read_manifest(tmp_path)["run"]
    assert second != first
    assert all(re.fullmatch("[0-9a-f]{16}", run) for run in (first, second))


def test_a_run_that_goes_on_from_another_folder_is_a_run_of_its_own(stopped, tmp_path_factory, whole):
    other, kept = tmp_path_factory.mktemp("other"), []
    with pytest.raises(ZeroDivisionError):
        run(other, callbacks=[lambda _: 1 / 0])
    first = read_manifest(other)["run"]
    assert run(other, resume=stopped, callbacks=[lambda _: kept.append(names(other))])[1] == whole[1]
    assert kept[0] == ["000000006.safetensors", "lock", "manifest.json"]
    assert read_manifest(other)["run"] not in (first, read_manifest(stopped)["run"])


@pytest.mark.parametrize("name", ["checkpoints/notes.txt", "checkpoints/manifest.json", "checkpoints", "."])
def test_a_folder_of_something_else_is_refused(tmp_path, name):
    path = tmp_path / "run"
    file = Path(os.path.normpath(path / name))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('{"a": "manifest of something else"}')
    before = content(tmp_path)
    for resume in (False, True):
        with pytest.raises(OSError, match=r"checkpoint must be a folder.*got "):
            run(path, resume=resume)
    assert content(tmp_path) == before


def test_other_files_of_the_run_are_not_touched(tmp_path, whole):
    (tmp_path / "notes.txt").write_text("of the user")
    assert run(tmp_path)[1] == whole[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "notes.txt"]


# Data that change


def shuffled(number):
    data = batches()
    return [data[(k + number) % 3] for k in range(3)]


def test_an_iterable_in_another_order_goes_on_with_a_warning(tmp_path):
    options = {"updates": 9, "seed": 1, "checkpoint": tmp_path, **ERROR}
    gc.fit(regressor(), shuffled(0), callbacks=stop_after(5), **options)
    with pytest.warns(CheckpointWarning, match=r"data must repeat batch 3 of epoch 2, got another one.*shuffle=True"):
        assert gc.fit(regressor(), shuffled(1), resume=True, **options).updates == 9


@pytest.mark.parametrize("change", ["another shape", "fewer batches"])
def test_an_iterable_of_other_batches_is_refused(tmp_path, change):
    options = {"updates": 9, "seed": 1, "checkpoint": tmp_path, **ERROR}

    class Source:  # without a length
        def __init__(self, entries):
            self.entries = entries

        def __iter__(self):
            return iter(self.entries)

    gc.fit(regressor(), Source(batches()), callbacks=stop_after(5), **options)
    model = regressor()
    weights = bits(model)
    other = [(x[:3], y[:3]) for x, y in batches()] if change == "another shape" else batches()[:1]
    with pytest.raises(ValueError, match="data must repeat batch 3 of epoch 2, got another one: pass the data"):
        gc.fit(model, Source(other), resume=True, **options)
    assert bits(model) == weights


# Owners of a folder


def test_two_owners_are_refused(tmp_path):
    text = rf"it is used by process {os.getpid()} on .*, which is this one"
    with CheckpointFolder(tmp_path), pytest.raises(BlockingIOError, match=text):
        run(tmp_path)
    run(tmp_path, callbacks=stop_after(2))
    with CheckpointFolder(tmp_path), pytest.raises(BlockingIOError, match="it is used by process"):
        run(tmp_path, resume=True)
    run(tmp_path, resume=True)


def test_a_dead_owner_is_no_owner(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "lock").write_text("1 another-machine\n")
    run(tmp_path, callbacks=stop_after(2))
    assert names(tmp_path) == ["000000000.safetensors", "000000002.safetensors", "manifest.json"]


def test_without_locks_of_the_system_a_running_process_is_the_owner(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    (tmp_path / "checkpoints").mkdir()
    lock, host = tmp_path / "checkpoints" / "lock", os.uname().nodename
    process = multiprocessing.get_context("spawn").Process()
    process.start()
    process.join()
    for owner, is_owner in ((f"{os.getpid()} {host}", True), ("1 another-machine", True), ("", False)):
        lock.write_text(owner)
        if is_owner:
            with pytest.raises(BlockingIOError):
                CheckpointFolder(tmp_path)
        else:
            CheckpointFolder(tmp_path).close()
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(f"{process.pid} {host}")
    CheckpointFolder(tmp_path).close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    folder = CheckpointFolder(tmp_path)
    child = os.fork()
    if not child:
        signal.pause()
        os._exit(0)
    try:
        folder.close()
        CheckpointFolder(tmp_path).close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# Ctrl-C, and the page


def press(state):
    if state.history.updates == 5:
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_after_the_update_and_its_checkpoint(tmp_path, whole):
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="resume=True goes on from update 5, in "):
        run(tmp_path, callbacks=[press])
    assert signal.getsignal(signal.SIGINT) is handler
    assert names(tmp_path)[-2:] == ["000000005.safetensors", "manifest.json"]
    assert read_manifest(tmp_path)["state"] == "interrupted"
    assert run(tmp_path, resume=True)[1] == whole[1]


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, callbacks=[press, press])
    assert names(tmp_path)[-2:] == ["000000004.safetensors", "manifest.json"]
    assert read_manifest(tmp_path)["state"] == "interrupted"


def test_a_handler_of_the_program_stays(tmp_path):
    seen = []
    previous = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        assert run(tmp_path, callbacks=[press])[1].updates == 12
    finally:
        signal.signal(signal.SIGINT, previous)
    assert seen == [1]


def test_the_blocks_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks, variables = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), {}
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "docs/checkpoints.md", "exec"), variables)  # noqa: S102 - it is the test
    assert has_checkpoint("runs/sum")
    assert read_manifest("runs/own_loop")["state"] == "finished"


def test_a_folder_without_a_complete_manifest_has_none(tmp_path):
    assert read_manifest(tmp_path) is None
    run(tmp_path)
    assert read_manifest(tmp_path)["state"] == "finished"
    manifest = tmp_path / "checkpoints" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-9])
    assert read_manifest(tmp_path) is None


def test_without_fcntl_there_are_no_locks(tmp_path, monkeypatch):
    """As on Windows."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with (tmp_path / "file").open("wb") as file:
        assert lock_descriptor(file.fileno()) is None


def test_a_lock_is_renewed_if_its_file_was_removed_and_keeps_one_file_open(tmp_path):
    def next_descriptor():
        descriptor = os.open(os.devnull, os.O_RDONLY)
        os.close(descriptor)
        return descriptor

    lock = FolderLock(tmp_path)
    expected = next_descriptor()
    assert not lock.renew()
    (tmp_path / FolderLock.NAME).unlink()
    assert lock.renew()
    assert not lock.renew()
    assert next_descriptor() == expected
    lock.release()
    assert list(tmp_path.iterdir()) == []
