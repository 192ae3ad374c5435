"""Property: the weights in a checkpoint are found, and never guessed."""

from collections import OrderedDict

import numpy as np
import pytest

from glasscell.convert.torch.state_dicts import state_dict, state_dicts


def test_a_dict_of_arrays_is_the_state_dict():
    weights = OrderedDict(a=np.ones(2), _metadata={"": {"version": 1}})
    assert state_dict(weights) == {"a": weights["a"]}


@pytest.mark.parametrize("at", ["state_dict", "model_state_dict", "model", "net", "module", "anything", "a.b.c"])
def test_the_state_dict_in_a_checkpoint(at):
    weights = {"w": np.ones(2)}
    content = weights
    for key in reversed(at.split(".")):
        content = {key: content, "epoch": 3, "optimizer": {"state": {0: {"step": np.ones(1)}}, "param_groups": [{}]}}
    assert state_dict(content) == weights
    assert state_dict(content, at) == weights


def test_several_candidates_are_listed():
    content = {"model": {"w": np.ones(2)}, "ema": {"model": {"w": np.zeros(2)}}}
    with pytest.raises(ValueError, match=r"key must be one of the keys of weights, 'model', 'ema\.model', got None"):
        state_dict(content)
    np.testing.assert_array_equal(state_dict(content, "ema.model")["w"], [0, 0])
    with pytest.raises(ValueError, match=r"one of 'model', 'ema\.model', got 'other'"):
        state_dict(content, "other")


@pytest.mark.parametrize("content", [None, 3, "text", [], {}, {"a": 1}, [{"w": np.ones(1)}], {"a": {0: np.ones(1)}}])
def test_no_weights(content):
    with pytest.raises(ValueError, match="must be a dict of arrays, or contain one"):
        state_dict(content)
    with pytest.raises(ValueError, match="must be a key of weights, got 'a': the file contains no weights"):
        state_dict(content, "a")


def test_tables_of_numbers_are_no_weights():
    """Lightning keeps the scores of its checkpoints as 0-d tensors, by path; and a loss may have weights of classes."""
    weights = {"model.fc.weight": np.ones((2, 3)), "loss.weight": np.ones(2)}
    callbacks = {"ModelCheckpoint{'monitor': 'val_loss'}": {"best_k_models": {"a/epoch=8.ckpt": np.array(0.5)}}}
    content = {"epoch": 9, "state_dict": weights, "callbacks": callbacks, "hyper_parameters": {"weights": np.ones(2)}}
    assert state_dict(content) == weights
    assert state_dict(content | {"class_weights": np.ones(2)}) == weights
    assert len(state_dicts(content)) == 3


def test_weights_beside_an_epoch():
    weights = {"fc.weight": np.ones((2, 3)), "fc.bias": np.ones(2)}
    assert state_dict(weights | {"epoch": 3, "best": True}) == weights


def test_a_checkpoint_that_holds_itself():
    content = {"model": {"w": np.ones(2)}}
    content["again"] = content
    assert list(state_dict(content)) == ["w"]
