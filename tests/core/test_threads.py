"""A limit on NumPy's BLAS limits all of Glasscell, and there are never more threads than cores."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from glasscell.core import blas_threads


@pytest.fixture
def cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    for name in blas_threads.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("of_libraries", "expected"), [([1], 1), ([3], 3), ([4, 2], 2), ([64], 4)])
def test_the_number_of_the_libraries_applies(of_libraries, expected, cores, monkeypatch):
    libraries = [SimpleNamespace(num_threads=number) for number in of_libraries]
    monkeypatch.setattr(blas_threads, "_libraries", lambda: libraries)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert blas_threads.max_threads() == expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 4),
        ({"OPENBLAS_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "3"}, 2),
        ({"OPENBLAS_NUM_THREADS": "many"}, 4),
        ({"MKL_NUM_THREADS": "0"}, 4),
    ],
)
def test_without_threadpoolctl_the_environment_applies(variables, expected, cores, monkeypatch):
    monkeypatch.setattr(blas_threads, "_libraries", list)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert blas_threads.max_threads() == expected


def test_limits_of_threadpoolctl_apply():
    pytest.importorskip("threadpoolctl")
    program = (
        "import numpy, threadpoolctl\n"
        "from glasscell.core.blas_threads import max_threads\n"
        "with threadpoolctl.threadpool_limits(1, user_api='blas'):\n"
        "    assert max_threads() == 1\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
