"""Functions compile and run for every defect of their cache files."""

import errno
import os
import pickle
import stat

import numpy as np
import pytest

from glasscell.core.numba_engine import jit_cache

numba = pytest.importorskip("numba", reason="pip install -e '.[jit]'")
from numba.core import caching  # noqa: E402 - where Numba is


def twice(x):
    return x + x


def compile_twice():
    return jit_cache.jit_cached(twice, numba.int64(numba.int64))


def was_read(function):
    return sum(function.stats.cache_hits.values()) == 1


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where functions are kept; one is there."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert not was_read(compile_twice())
    assert was_read(compile_twice())
    return tmp_path


def file_of(folder, ending):
    (file,) = folder.rglob(f"*.{ending}")
    return file


def to_half(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def to_nothing(file):
    file.write_bytes(b"")


def to_noise(file):
    file.write_bytes(np.random.default_rng(0).bytes(file.stat().st_size))


def to_another_object(file):
    file.write_bytes(pickle.dumps(numba.__version__) + pickle.dumps([1, 2, 3]))


def to_a_missing_class(file):
    file.write_bytes(b"cnumba.no.such.module\nThing\n.")


def to_a_folder(file):
    file.unlink()
    file.mkdir()


DAMAGES = [to_half, to_nothing, to_noise, to_another_object, to_a_missing_class, to_a_folder]


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_compiled_and_replaced(damage, ending, folder):
    damage(file_of(folder, ending))
    assert compile_twice()(21) == 42
    if damage is not to_a_folder:  # which cannot be replaced
        again = compile_twice()
        assert was_read(again)
        assert again(21) == 42


def test_missing_files_are_compiled_and_written(folder):
    file_of(folder, "nbc").unlink()
    assert compile_twice()(21) == 42
    assert was_read(compile_twice())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("when", ["opened", "written"])
@pytest.mark.parametrize("damage", [None, to_half])
def test_a_full_disk_is_no_error(damage, when, number, folder, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    if damage is None:
        for file in folder.rglob("*.nb?"):
            file.unlink()
    else:
        damage(file_of(folder, "nbi"))
    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write" if when == "opened" else "_save_data", refuse)
    assert compile_twice()(21) == 42


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_unreadable_files_are_no_error(folder):
    for ending in ("nbi", "nbc"):
        file = file_of(folder, ending)
        mode = stat.S_IMODE(file.stat().st_mode)
        file.chmod(0)
        try:
            assert compile_twice()(21) == 42
        finally:
            if file.exists():
                file.chmod(mode)


def test_a_missing_folder_is_no_error(monkeypatch):
    asked, njit = [], numba.njit

    def without_a_folder(*arguments, cache=False, **options):
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function 'twice': no locator available for file")
        return njit(*arguments, **options)

    monkeypatch.setattr(numba, "njit", without_a_folder)
    assert compile_twice()(21) == 42
    assert asked == [True, True, False]


def test_a_function_that_cannot_be_compiled_is_an_error(folder):
    with pytest.raises(numba.core.errors.TypingError):
        jit_cache.jit_cached(lambda x: x.nothing, numba.int64(numba.int64))


def test_an_interrupt_damages_no_file(folder, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(caching.IndexDataCacheFile, "_load_index", interrupt)
    with pytest.raises(KeyboardInterrupt):
        compile_twice()
