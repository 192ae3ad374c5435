"""Law: an HDF5 file that is damaged, or of a kind that Keras does not write, raises an error that names the place."""

import struct

import numpy as np
import pytest

from glasscell.convert.keras import hdf5
from glasscell.convert.keras.hdf5_header import DATASPACE, DATATYPE, LAYOUT, SYMBOLS
from glasscell.limits import MemoryBudget

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def opened(content):
    return hdf5.File(bytes(content), MemoryBudget(len(content)))


@pytest.fixture
def content(h5py, tmp_path):
    """Return the bytes of a file: a group with a dataset and a text of any length, and attributes of other types."""
    with h5py.File(tmp_path / "m.h5", "w", libver="earliest") as file:
        group = file.create_group("group")
        group["array"] = VALUES
        group.attrs["text"] = "some text"
        group.attrs["number"] = 3.0
        group.attrs["two"] = np.array([b"a", b"b"])
        group.attrs["none"] = h5py.Empty("S1")
    return bytearray((tmp_path / "m.h5").read_bytes())


def message(content, path, kind):
    """Return the offset of the content of a message in the header of an object."""
    entry = opened(content).root
    for name in path.split("/")[1:]:
        entry = entry[name]
    return entry.header.first[kind].offset


def attribute(content, name):
    """Return the message, and the offset of the datatype, of an attribute of the group."""
    found, _, offset = opened(content).root["group"].header.attributes[name]
    return found, offset


def put(content, offset, *values, form="B"):
    content[offset : offset + struct.calcsize(f"<{len(values)}{form}")] = struct.pack(f"<{len(values)}{form}", *values)


def read_all(content):
    group = opened(content).root["group"]
    return group.text("text"), {name: group[name].read() for name in group}


def test_the_file_is_read_while_it_is_whole(content):
    text, arrays = read_all(content)
    assert text == "some text"
    np.testing.assert_array_equal(arrays["array"], VALUES)
    group = opened(content).root["group"]
    assert group.texts("two") == ["a", "b"]
    assert group.texts("none") == []
    with pytest.raises(KeyError, match="missing"):
        group["missing"]


def superblock(offset, *values):
    return lambda content: put(content, offset, *values)


def in_message(path, kind, by, *values, form="B"):
    return lambda content: put(content, message(content, path, kind) + by, *values, form=form)


def in_tree(by, *values, form="B"):
    """Damage the B-tree of the group."""

    def damage(content):
        [tree] = struct.unpack_from("<Q", content, message(content, "/group", SYMBOLS))
        put(content, tree + by, *values, form=form)

    return damage


def in_node(by, *values, form="B"):
    """Damage the first symbol table node of the group."""

    def damage(content):
        [tree] = struct.unpack_from("<Q", content, message(content, "/group", SYMBOLS))
        [node] = struct.unpack_from("<Q", content, tree + 32)
        put(content, node + by, *values, form=form)

    return damage


def in_names(damage_names):
    """Damage the heap of the names of the group."""

    def damage(content):
        _, heap = struct.unpack_from("<QQ", content, message(content, "/group", SYMBOLS))
        damage_names(content, heap)

    return damage


def endless_name(content, heap):
    size, _, names = struct.unpack_from("<3Q", content, heap + 8)
    content[names : names + size] = b"x" * size


def no_heap(content):
    content[content.index(b"GCOL")] = 0


def longer_text(content):
    found, _ = attribute(content, "text")
    put(content, found.offset + found.size - 16, 10_000, form="I")


def longer_attribute(content):
    _, offset = attribute(content, "two")
    put(content, offset + 4, 200, form="I")  # the size of a text


def long_message(content):
    found, _ = attribute(content, "number")
    put(content, found.offset - 6, 60_000, form="H")  # its size


DAMAGE = {
    "another signature": (superblock(0, 0), "it is not an HDF5 file"),
    "a newer superblock": (superblock(8, 2), r"it is in a newer format of HDF5 \(superblock 2\)"),
    "shorter addresses": (superblock(13, 4, 8), "another width of addresses than Keras writes"),
    "a base address": (superblock(24, 1), "it is an HDF5 file within another file"),
    "a text of a heap that is none": (no_heap, "a heap has no signature"),
    "a text longer than its heap": (longer_text, "a text is longer than its heap object"),
    "a dataspace of no version": (in_message("/group/array", DATASPACE, 0, 9), "/group/array is damaged: its shape"),
    "a dataset of no shape": (
        in_message("/group/array", DATASPACE, -8, 0x55, 0, form="B"),
        "/group/array must be a dataset",
    ),
    "a dataset without a datatype": (in_message("/group/array", DATATYPE, -8, 0x55), "/group/array has no datatype"),
    "a float of another layout": (
        in_message("/group/array", DATATYPE, 12, 22),
        "/group/array must contain floating-point numbers",
    ),
    "values in another file": (in_message("/group/array", LAYOUT, -8, 7), "/group/array are in another file"),
    "values in chunks": (in_message("/group/array", LAYOUT, 1, 2), "the values of /group/array are in chunks"),
    "values without an address": (
        in_message("/group/array", LAYOUT, 2, 2**64 - 1, form="Q"),
        r"/group/array has the shape \(2, 3\), but only 24 bytes",
    ),
    "too few values": (
        in_message("/group/array", LAYOUT, 10, 20, form="Q"),
        r"/group/array has the shape \(2, 3\), but only 20 bytes of values",
    ),
    "names that are none": (
        in_names(lambda content, heap: put(content, heap, 0)),
        "/group is damaged: it has no names",
    ),
    "a name that does not end": (in_names(endless_name), "/group is damaged: a name does not end"),
    "a tree that is none": (in_tree(0, 0), "/group is damaged: its entries cannot be found"),
    "a tree of another kind": (in_tree(4, 1), "/group is damaged: its entries cannot be found"),
    "a soft link": (in_node(8 + 16, 2, form="I"), "/group/array is a link, which Keras does not write"),
    "an entry without an address": (in_node(8 + 8, 2**64 - 1, form="Q"), "/group/array is a link"),
    "a message longer than its header": (long_message, "a message is longer than its header"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_by_its_place(name, content):
    damage, words = DAMAGE[name]
    damage(content)
    with pytest.raises(ValueError, match=words):
        read_all(content)


def test_attributes_that_are_no_text_are_named(content):
    group = opened(content).root["group"]
    with pytest.raises(ValueError, match="the attribute 'number' of /group must be text"):
        group.text("number")
    with pytest.raises(ValueError, match="the attribute 'two' of /group must be one text, got 2"):
        group.text("two")
    longer_attribute(content)
    with pytest.raises(ValueError, match="the attribute 'two' of /group is longer than its message"):
        opened(content).root["group"].texts("two")


def test_a_group_of_the_newer_format_is_refused(h5py, tmp_path):
    """With links in the header of the group, and no table of symbols."""
    with h5py.File(tmp_path / "m.h5", "w", libver="earliest") as file:
        file.create_group("group", track_order=True)["array"] = VALUES
    group = opened((tmp_path / "m.h5").read_bytes()).root
    with pytest.raises(ValueError, match="newer format"):
        list(group["group"])


def test_a_dataset_is_no_group(content):
    entry = opened(content).root["group"]["array"]
    with pytest.raises(ValueError, match="/group/array must be a group"):
        list(hdf5.Group(entry.file, entry.path, entry.header))


def test_values_in_the_header_are_those_of_the_dataset(h5py, tmp_path):
    """HDF5 stores few values in the header itself, if it is asked to."""
    with h5py.File(tmp_path / "m.h5", "w", libver="earliest") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(VALUES.shape)
        h5py.h5d.create(file.id, b"array", h5py.h5t.IEEE_F32LE, space, properties).write(
            h5py.h5s.ALL, h5py.h5s.ALL, VALUES
        )
    np.testing.assert_array_equal(opened((tmp_path / "m.h5").read_bytes()).root["array"].read(), VALUES)
