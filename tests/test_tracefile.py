"""The trace file: what goes in comes out, and what is not a trace is told in one line."""

import gzip
import json
import math
import os
import random
import subprocess
import sys
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradtrace.errors import OutputError, TraceFileError
from gradtrace.model import (
    FORMAT_VERSION,
    BackwardPass,
    Comparison,
    Edge,
    ErrorInfo,
    Fact,
    ForwardCall,
    Held,
    LeafSeries,
    ModuleCall,
    Node,
    Operand,
    Origin,
    SavedTensor,
    Source,
    TensorStats,
    Trace,
)
from gradtrace.tracefile import dumps, is_trace, load, loads, save
from gradtrace.validation import flaws
from tests.builders import edge, function, leaf, partials, trace

texts = st.text(max_size=8)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**40)
positions = st.integers(0, 2**31 - 1)
amounts = st.none() | st.floats(0, allow_nan=False, allow_infinity=False)
sources = st.builds(Source, texts, positions, positions, positions, positions, texts, texts)
nested = st.recursive(numbers, lambda inner: st.lists(inner, max_size=3), max_leaves=6)


@st.composite
def stats(draw):
    shape = draw(st.lists(st.integers(0, 3), max_size=3).map(tuple))
    values = numbers
    for length in reversed(shape):
        values = st.lists(values, min_size=length, max_size=length)
    low, high = sorted(draw(st.tuples(*[st.floats(-9, 9)] * 2)))
    nan = draw(st.integers(0, math.prod(shape)))
    inf = draw(st.integers(0, math.prod(shape) - nan))
    zeros = draw(st.none() | st.floats(0, 1))
    few = draw(st.none() | values)
    measured = draw(amounts), draw(numbers), low, high, zeros, nan, inf, few
    return TensorStats(shape, draw(texts), draw(texts), *measured, note=draw(texts))


many_stats = st.lists(st.none() | stats(), max_size=3).map(tuple)
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
    seconds=amounts,
)


@st.composite
def passes(draw):
    own = draw(st.lists(nodes, min_size=1, max_size=3, unique_by=lambda node: node.id))
    ids = st.sampled_from([node.id for node in own])
    edges = draw(st.lists(st.builds(Edge, ids, ids, positions, positions, st.none() | stats()), max_size=3))
    kind = draw(st.sampled_from(["backward", "grad", "seeded"]))
    parent = draw(st.none() | counts)
    index = draw(counts) + (0 if parent is None else parent + 1)
    return BackwardPass(index, kind, tuple(own), tuple(edges), parent=parent)


rows = st.lists(st.tuples(counts, amounts, st.booleans()), max_size=3)
series = st.builds(
    lambda name, rows: LeafSeries(name, (2,), *([row[at] for row in rows] for at in range(3))), texts, rows
)
traces = st.builds(
    Trace,
    st.just(FORMAT_VERSION),
    st.lists(texts, max_size=3).map(tuple),
    st.dictionaries(texts, texts, max_size=2),
    st.lists(passes(), max_size=2, unique_by=lambda graph: graph.index).map(tuple),
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


def one(*nodes, edges=(), **more):
    """A trace of one pass."""
    return trace(BackwardPass(1, "backward", nodes or (leaf("n0", "x", 1.0, 1.0),), edges, **more))


def holding(shape, **more):
    """A trace of one leaf with these statistics."""
    return one(Node("n0", "leaf", "AccumulateGrad", "x", values=(TensorStats(shape, **more),)))


def deep(depth):
    value = 1.0
    for _ in range(depth):
        value = [value]
    return value


def calls(*parents):
    return tuple(ModuleCall(f"m.{at}", "M", parent) for at, parent in enumerate(parents))


def unlike(**fields):
    return msgspec.structs.replace(trace(), **fields)


POW = function("n0", "PowBackward0", "u**2", 4.0)
FLAWS = {
    "an edge to nowhere": (one(edges=(edge("n0", "n9", 1.0),)), "an edge leads from 'n0' to 'n9'"),
    "two nodes with one id": (one(leaf("n0", "x", 1, 1), leaf("n0", "y", 1, 1)), "two nodes have the same id"),
    "two passes with one index": (trace(partials(), partials()), "two passes 1"),
    "a pass inside itself": (one(parent=1), "pass 1 is inside pass 1"),
    "a module call inside itself": (one(calls=calls(0)), "module call 0 is inside itself"),
    "module calls in a circle": (one(calls=calls(None, 3, 1, 2)), "is inside itself"),
    "a module call inside none": (one(calls=calls(7)), "module call 0 is inside call 7, of 1"),
    "a node in no module call": (one(msgspec.structs.replace(POW, call=2), calls=calls(None)), "module call 2, of 1"),
    "values that are too few": (holding((2,), values=[1.0]), "values are not of the shape (2,)"),
    "values that are nested otherwise": (holding((2, 2), values=[1.0, 2.0, 3.0, 4.0]), "values are not of the shape"),
    "text inside values": (holding((1,), values=["one"]), "values are not of the shape"),
    "values nested 900 deep": (holding((1,), values=deep(900)), "values are not of the shape"),
    "an integer that no tensor holds": (holding((1,), values=[10**300]), "values are not of the shape"),
    "a shape without end": (holding((2**63 - 1, 2)), "too many elements"),
    "more dimensions than there are": (holding((1,) * 65), "length <= 64"),
    "a length below zero": (holding((-1,)), "expected `int` >= 0"),
    "more than all elements not finite": (holding((3,), nan=2, inf=2), "2 nan and 2 inf"),
    "a fraction above one": (holding((3,), zeros=1.5), "expected `float` <= 1.0"),
    "a norm below zero": (holding((3,), norm=-1.0), "expected `float` >= 0.0"),
    "a minimum above the maximum": (holding((3,), min=2.0, max=1.0), "above the maximum"),
    "an attribute nested 900 deep": (
        one(msgspec.structs.replace(POW, attributes={"a": deep(900)})), "more than 64 lists"
    ),
    "an attribute with fields": (one(msgspec.structs.replace(POW, attributes={"a": {}})), "a value is {}"),
    "an error at no node": (one(error=ErrorInfo("E", "no", None, "n9")), "no node 'n9'"),
    "a fact about no node": (one(facts=(Fact("held", ("n9",), data={"passes": 2}),)), "no node 'n9'"),
    "a fact without its data": (one(facts=(Fact("held", ("n0",)),)), "missing required field `passes`"),
    "a fact with other data": (one(facts=(Fact("cut", data={"how": 3}),)), "expected `str`, got `int`"),
    "a fact of the run about no node": (unlike(facts=(Fact("optimizer", ("n99",)),)), "no node 'n99'"),
    "an operand of no node": (one(forward=(ForwardCall("sin", (Operand(node="n9"),)),)), "no node 'n9'"),
    "elements held of no node": (one(held=(Held("n9"),)), "no node 'n9'"),
    "elements held that are cut": (one(held=(Held("n0", value=b"123"),)), "has 3 bytes"),
    "elements held of another shape": (one(held=(Held("n0", value=b"12345678"),)), "has 8 bytes"),
    "a comparison of no node": (one(comparisons=(Comparison("n9", "leaf"),)), "no node 'n9'"),
    "an origin that is not there": (
        one(msgspec.structs.replace(POW, origin=Origin(1, "n9", "SinBackward0"))), "pass 1 has no node 'n9'"
    ),
    "rows of different lengths": (unlike(series=(LeafSeries("x", (), [1, 2], [0.5], [True]),)), "different lengths"),
    "a line that no file has": (one(call=Source("a.py", 10**12)), "expected `int` <= 2147483647"),
}  # fmt: skip


@pytest.mark.parametrize(("damaged", "words"), FLAWS.values(), ids=FLAWS)
def test_what_does_not_fit_together_is_told(damaged, words, tmp_path):
    path = tmp_path / "run.json"
    save(damaged, path)
    assert words in told(path)


def test_a_name_without_end_is_told_in_a_line_that_ends(tmp_path):
    path = tmp_path / "run.json"
    save(one(edges=(edge("n0", "n" * 10**6, 1.0),)), path)
    assert len(told(path)) < 400 + len(str(path))


def test_a_module_call_inside_a_hundred_thousand_others_is_read(tmp_path):
    chain = one(calls=calls(None, *range(100_000)))
    assert loads(dumps(chain)) == chain
    assert "inside itself" in str(next(flaws(one(calls=calls(*range(1, 100_000), 0)))))


@pytest.mark.parametrize(
    "unpacked", [b" " * 10**8, dumps(trace()) + b" " * 10**8], ids=["spaces", "a trace and spaces"]
)
def test_a_small_file_that_unpacks_to_much_is_told_before_it_has(unpacked, tmp_path):
    path = tmp_path / "run.json.gz"
    path.write_bytes(gzip.compress(unpacked))
    tracemalloc.start()
    try:
        assert "more than 100 times its size" in told(path)
        assert tracemalloc.get_traced_memory()[1] < 3 * (100 * path.stat().st_size + 2**20)
    finally:
        tracemalloc.stop()


def test_a_trace_of_equal_nodes_unpacks_however_well_it_was_packed(tmp_path):
    same = tuple(Node(f"n{at}", "function", "MulBackward0", grads=(TensorStats((3,)),)) for at in range(30_000))
    links = tuple(Edge(f"n{at}", f"n{at + 1}", grad=TensorStats((3,))) for at in range(29_999))
    path = tmp_path / "run.json.gz"
    path.write_bytes(gzip.compress(dumps(trace(BackwardPass(1, "backward", same, links))), 9))
    assert load(path).passes[0].nodes == same


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
