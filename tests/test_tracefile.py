"""The trace file: what goes in comes out, and what is not a trace is told in one line."""

import gzip
import json
import math
import os
import random
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradtrace.errors import OutputError, TraceFileError
from gradtrace.model import (
    FORMAT_VERSION,
    BackwardPass,
    Edge,
    ErrorInfo,
    LeafSeries,
    Node,
    SavedTensor,
    Source,
    TensorStats,
    Trace,
)
from gradtrace.tracefile import dumps, is_trace, load, loads, save
from tests.builders import edge, leaf, partials, trace

texts = st.text(max_size=8)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**40)
sources = st.builds(Source, texts, counts, counts, counts, counts, texts, texts)
nested = st.recursive(numbers, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
stats = st.builds(
    TensorStats,
    st.lists(counts, max_size=3).map(tuple),
    texts,
    texts,
    *[numbers] * 5,
    nan=counts,
    inf=counts,
    values=nested,
    note=texts,
)
many_stats = st.lists(st.none() | stats, max_size=3).map(tuple)
attributes = st.dictionaries(texts, nested | texts, max_size=3)
errors = st.none() | st.builds(ErrorInfo, texts, texts, st.none() | sources, st.none() | texts)
nodes = st.builds(
    Node,
    id=st.uuids().map(str),
    kind=st.sampled_from(["output", "function", "leaf"]),
    op=texts,
    name=texts,
    module=texts,
    source=st.none() | sources,
    library=st.none() | sources,
    values=many_stats,
    grads=many_stats,
    saved=st.lists(st.builds(SavedTensor, texts, st.just((3, 4)), texts, counts), max_size=2).map(tuple),
    attributes=attributes,
    order=st.none() | counts,
    seconds=numbers,
)


@st.composite
def passes(draw):
    own = draw(st.lists(nodes, min_size=1, max_size=3, unique_by=lambda node: node.id))
    ids = st.sampled_from([node.id for node in own])
    edges = draw(st.lists(st.builds(Edge, ids, ids, counts, counts, st.none() | stats), max_size=3))
    kind = draw(st.sampled_from(["backward", "grad", "seeded"]))
    return BackwardPass(draw(counts), kind, tuple(own), tuple(edges), parent=draw(st.none() | counts))


series = st.builds(
    LeafSeries, texts, st.just((2,)), st.lists(counts), st.lists(numbers), st.lists(st.booleans(), max_size=3)
)
traces = st.builds(
    Trace,
    st.just(FORMAT_VERSION),
    st.lists(texts, max_size=3).map(tuple),
    st.dictionaries(texts, texts, max_size=2),
    st.lists(passes(), max_size=2).map(tuple),
    st.lists(series, max_size=2).map(tuple),
    errors,
)


def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")


def big(count):
    """A chain of ``count`` functions."""
    some = TensorStats((64, 64), norm=1.25, mean=0.5, min=-1.0, max=1.0)
    where = Source("train.py", 12, 12, 4, 9, text="u * v")
    chain = (Node(f"n{i}", "function", "MulBackward0", source=where, grads=(some,), order=i) for i in range(count))
    links = (Edge(f"n{i}", f"n{i + 1}", grad=some) for i in range(count - 1))
    return trace(BackwardPass(1, "backward", tuple(chain), tuple(links)))


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "run.json"
    save(trace(), path)
    return path


@given(traces)
def test_what_is_loaded_equals_what_was_saved(original):
    assert loads(dumps(original)) == original


@pytest.mark.parametrize("name", ["run.json", "run.json.gz", "RUN.JSON.GZ", "no-suffix"])
def test_a_file_holds_the_trace_whatever_its_name(tmp_path, name):
    save(trace(), tmp_path / name)
    assert load(tmp_path / name) == trace()


def test_the_file_is_json_of_the_structs_with_the_format_version_first(saved):
    read = json.loads(saved.read_text(encoding="utf-8"))
    assert next(iter(read)) == "format_version"
    assert msgspec.convert(read, Trace) == trace()


def test_a_name_in_gz_is_compressed_and_another_is_not(tmp_path, saved):
    save(trace(), tmp_path / "run.json.gz")
    assert gzip.decompress((tmp_path / "run.json.gz").read_bytes()) == saved.read_bytes()


def test_the_same_trace_gives_the_same_compressed_bytes_at_any_time_under_any_name(tmp_path, monkeypatch):
    save(trace(), tmp_path / "a.json.gz")
    monkeypatch.setattr("time.time", lambda: 2e9)
    save(trace(), tmp_path / "b.json.gz")
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_no_number_in_the_file_is_nan_or_infinity(broken):
    graph = BackwardPass(1, "backward", (Node("n0", "leaf", "x", attributes={"p": [broken]}, seconds=broken),))
    graph = msgspec.structs.replace(graph, edges=(Edge("n0", "n0", grad=TensorStats((), norm=broken, values=broken)),))
    json.loads(dumps(trace(graph)), parse_constant=refuse)


def test_a_file_name_that_is_not_utf8_spoils_only_itself():
    odd = os.fsdecode(b"caf\xe9.py")
    kept = loads(dumps(msgspec.structs.replace(trace(), command=(odd, "--lr"))))
    assert kept == msgspec.structs.replace(trace(), command=("caf?.py", "--lr"))


def test_a_reader_ignores_fields_that_it_does_not_know():
    read = json.loads(dumps(trace()))
    read["passes"][0]["nodes"][0]["colour"] = "red"
    assert loads(json.dumps(read).encode()) == trace()


def told(path):
    """The one line that loading ``path`` ends in."""
    with pytest.raises(TraceFileError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert repr(str(path)) in message
    assert caught.value.exit_code == 2
    return message


def test_a_missing_file_is_told(tmp_path):
    assert "no such file" in told(tmp_path / "nowhere.json")


def test_a_directory_is_told(tmp_path):
    assert "is a directory" in told(tmp_path)


def test_a_path_through_a_file_is_told(saved):
    assert "not a directory" in told(saved / "run.json")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_told(saved):
    saved.chmod(0)
    assert "permission denied" in told(saved)


def test_a_file_cut_anywhere_is_told_as_truncated(saved):
    whole = saved.read_bytes().rstrip()
    for length in random.Random(0).sample(range(1, len(whole)), 200):
        saved.write_bytes(whole[:length])
        assert "truncated" in told(saved)


def test_a_compressed_file_cut_anywhere_is_told_as_truncated(tmp_path):
    path = tmp_path / "run.json.gz"
    save(trace(), path)
    whole = path.read_bytes()
    for length in range(2, len(whole)):
        path.write_bytes(whole[:length])
        assert "truncated" in told(path)


def test_an_empty_file_is_told(tmp_path):
    path = tmp_path / "run.json"
    path.touch()
    assert "is empty" in told(path)


def test_a_damaged_compressed_file_is_told(tmp_path):
    path = tmp_path / "run.json.gz"
    save(trace(), path)
    data = bytearray(path.read_bytes())
    data[-5] ^= 255  # the checksum
    path.write_bytes(data)
    assert "is damaged" in told(path)


@pytest.mark.parametrize("content", [b"import torch\n", b"\x89PNG\r\n", b"\xff\xfe\x00", b"{'a': 1}"])
def test_what_is_not_json_is_told(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    assert "is not JSON" in told(path)


@pytest.mark.parametrize("content", ["{}", "[]", "3", "null", '{"traceEvents": []}', '{"format_version": "one"}'])
def test_json_that_is_not_ours_is_told(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_text(content)
    assert "is not a gradtrace trace" in told(path)


def test_json_nested_without_end_is_told(tmp_path):
    path = tmp_path / "run.json"
    path.write_text('{"format_version": 1, "x": ' + "[" * 100_000 + "]" * 100_000 + "}")
    assert "is not JSON" in told(path)


def test_a_newer_version_is_told_even_where_it_reads_well(tmp_path):
    path = tmp_path / "run.json"
    save(msgspec.structs.replace(trace(), format_version=FORMAT_VERSION + 1), path)
    message = told(path)
    assert "newer gradtrace" in message
    assert "upgrade" in message


def test_a_newer_version_is_told_even_where_its_fields_changed(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"format_version": FORMAT_VERSION + 1, "passes": "elsewhere"}))
    assert "newer gradtrace" in told(path)


def test_a_wrong_type_is_told_with_its_place(tmp_path):
    path = tmp_path / "run.json"
    read = json.loads(dumps(trace()))
    read["passes"][0]["nodes"][2]["op"] = 7
    path.write_text(json.dumps(read))
    message = told(path)
    assert "expected `str`, got `int`" in message
    assert "$.passes[0].nodes[2].op" in message


def test_an_edge_to_nowhere_is_told(tmp_path):
    path = tmp_path / "run.json"
    save(trace(BackwardPass(1, "backward", (leaf("n0", "x", 1.0, 1.0),), (edge("n0", "n9", 1.0),))), path)
    assert "'n9'" in told(path)


def test_two_nodes_with_one_id_are_told(tmp_path):
    path = tmp_path / "run.json"
    save(trace(BackwardPass(1, "backward", (leaf("n0", "x", 1.0, 1.0), leaf("n0", "y", 1.0, 1.0)))), path)
    assert "same id" in told(path)


def test_saving_into_a_missing_folder_is_told(tmp_path):
    with pytest.raises(OutputError, match="no such folder"):
        save(trace(), tmp_path / "nowhere" / "run.json")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.json", True), ("a.json.gz", True), ("A.JSON", True), ("a.py", False), ("a", False), ("a.txt", False)],
)
def test_a_name_alone_tells_a_trace_from_a_script(name, expected):
    assert is_trace(name) is expected


@pytest.mark.parametrize("name", ["kept", "kept.gz", "kept.trace"])
def test_a_trace_under_another_name_is_told_by_its_content(tmp_path, name):
    save(trace(), tmp_path / name)
    assert is_trace(tmp_path / name)


def test_a_script_without_an_ending_is_no_trace(tmp_path):
    (tmp_path / "script").write_text("#!/usr/bin/env python\nimport torch\n")
    assert not is_trace(tmp_path / "script")
    assert not is_trace(tmp_path)


def test_loading_a_trace_imports_no_torch(saved):
    code = "import sys, gradtrace.tracefile as t; t.load(sys.argv[1]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, saved], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_pass_of_100_000_nodes_comes_back_whole():
    original = big(100_000)  # loads in 0.3 s; no clock here, a busy machine would make it fail
    assert loads(dumps(original)) == original


def test_the_partials_example_survives_a_file(saved):
    assert load(saved).passes[0].edges_into["n5"] == partials().edges_into["n5"]
