"""Mutations of tables and other texts, compressed or not."""

from __future__ import annotations

import gzip
import zlib

from torture.fuzzing.values import Generator, change_bytes, pick

CELLS = (
    *(
        "",
        " ",
        "0",
        "-1",
        "1e308",
        "1e309",
        "-1e400",
        "nan",
        "NaN",
        "inf",
        "1_000",
        "1,5",
        "1.5",
        "0x10",
        "1e",
        "+",
        "--1",
        "?",
    ),
    *(
        "NA",
        "null",
        "٣",
        "１",
        "true",
        "2020-01-01",
        "2020-13-01",
        "0000-00-00",
        "9999-12-31",
        "2020-01-01T00:00:00+25:00",
    ),
    *(
        "20200101",
        "2020-02",
        "9" * 400,
        "1" + "0" * 5000,
        '"',
        '""',
        '"a',
        'a"b',
        "'",
        "a\rb",
        "é",
        "\ufeff",
        "\0",
        "\x1a",
        "\u2028",
    ),
    *(
        "(1,2)",
        ":",
        "::",
        "@data",
        "@classLabel true a a",
        "@dimensions 99999999999",
        "@timeStamps true",
        "#",
        "%",
        "x" * 200_000,
    ),
    *(
        "1e-320",
        "1" * 18 + "e-17",
        "0001-01-01",
        "2020-01-31",
        "2020-02-29",
        "1e17",
        "-0",
        "1.0000000000000000001",
        "²",
    ),
)
SEPARATORS = (",", ";", "\t", " ", "|", ":", "\n", "\r\n", "\r", "\n\n", "\x0b", "\x0c", "\x85", "")


def change_table(content: bytes, rng: Generator) -> bytes:
    """Change cells, lines and separators of a text; mostly valid UTF-8 without compression."""
    text = content.decode("utf-8", "replace")
    for _ in range(int(rng.choice([1, 1, 2, 5]))):
        lines = text.split("\n")
        k, kind = int(rng.integers(len(lines))), rng.integers(10)
        if kind < 4:
            separator = pick(rng, (",", ",", ":", ";", "\t", " "))
            cells = lines[k].split(separator)
            cells[int(rng.integers(len(cells)))] = pick(rng, CELLS)
            lines[k] = separator.join(cells)
        elif kind == 4:
            del lines[k]
        elif kind == 5:
            lines[k:k] = [lines[int(rng.integers(len(lines)))]] * int(pick(rng, (1, 1, 2, 200)))
        elif kind == 6:
            j = int(rng.integers(len(lines)))
            lines[k], lines[j] = lines[j], lines[k]
        elif kind == 7:
            lines[k] = lines[k].replace(pick(rng, SEPARATORS[:6]), pick(rng, SEPARATORS))
        elif kind == 8:
            lines[k] = pick(rng, CELLS)
        else:
            place = int(rng.integers(len(lines[k]) + 1))
            lines[k] = lines[k][:place] + pick(rng, (*CELLS[:40], *SEPARATORS)) + lines[k][place:]
        text = "\n".join(lines)
    encoded = text.encode("utf-8", "replace")
    return change_bytes(encoded, rng) if rng.random() < 0.2 else encoded


def change_gzip(content: bytes, rng: Generator) -> bytes:
    """Change the text in a compressed file, or its bytes; rarely a text that is small only in its compressed form."""
    kind = rng.random()
    if kind < 0.3:
        return change_bytes(content, rng)
    text = gzip.decompress(content)
    if kind < 0.33:
        line = text.splitlines(keepends=True)[-1]
        text += line * int(pick(rng, (10_000, 200_000)))
    elif kind < 0.36:
        text += pick(rng, (b"0," * 2_000_000, b" " * 8_000_000, b"\n" * 4_000_000, b"1" * 8_000_000))
    else:
        text = change_table(text, rng)
    compressed = gzip.compress(text, 1, mtime=0)
    if rng.random() < 0.1:
        return compressed + pick(rng, (compressed, b"\0" * 8, b"x", zlib.compress(text[:1000])))
    return compressed
