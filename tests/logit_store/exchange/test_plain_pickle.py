"""A pickle from a stranger: plain values are read as `pickle` reads them, and nothing is ever called."""

import io
import os
import pickle
import pickletools
import struct

import numpy as np
import pytest

from distill.errors import InputError
from distill.logit_store.exchange import plain_pickle
from distill.logit_store.exchange.plain_pickle import plain_value, read_plain_pickle

VALUES = [
    None,
    True,
    [0, 1, 255, 256, 65_536, -1, 2**31, -(2**40), 2**200, 2**3000],
    [0.0, -1.5, 1e300, float("inf")],
    ["", "face.png", "été", "愛", "x" * 300, "x" * 70_000],
    [b"", b"\x00\xff", b"x" * 300],
    [(), (1,), (1, "a"), (1, 2.0, None), (1, 2, 3, 4, 5)],
    {"a": [1.0, 2.0], "b": {"c": [[], {}]}},
    {str(row): [float(row)] * 3 for row in range(2000)},
]


def refusal(content) -> str:
    with pytest.raises(InputError) as error:
        plain_value(content, name="p.pickle")
    message = str(error.value)
    assert message.startswith("p.pickle ")
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_of_every_protocol(protocol, value):
    content = pickle.dumps(value, protocol)
    if protocol < 3 and isinstance(value, list) and isinstance(value[0], bytes):
        assert "holds GLOBAL" in refusal(content)  # there Python 3 writes bytes as a call of codecs.encode
    else:
        assert plain_value(content, name="p.pickle") == value


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"(dp1\nS'face.png'\np2\n(lp3\nF1.5\naF-2\nas.", {"face.png": [1.5, -2.0]}),  # Python 2, protocol 0
        (b"\x80\x02}q\x01U\x03\xc3\xa9aq\x02]q\x03G?\xf8\0\0\0\0\0\0as.", {"éa": [1.5]}),  # UTF-8
        (b"\x80\x02}q\x01U\x02\xe9aq\x02]q\x03G?\xf8\0\0\0\0\0\0as.", {"éa": [1.5]}),  # Latin-1
        (b"\x80\x02T\x03\x00\x00\x00abc.", "abc"),
    ],
)
def test_strings_of_python_2(content, value):
    assert plain_value(content, name="p.pickle") == value


def crafted(marker) -> dict[str, bytes]:
    """Pickles, by the opcode that is to be refused, which would create the folder `marker`."""
    path = str(marker).encode()
    text = b"X" + struct.pack("<I", len(path)) + path  # BINUNICODE
    call = b"cos\nmkdir\n"
    return {
        "GLOBAL": b"\x80\x02" + call + text + b"\x85R.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93" + text + b"\x85R.",
        "INST": b"(" + text + b"ios\nmkdir\n.",
        "OBJ": b"(" + call + text + b"o.",
        "REDUCE": b"N" + text + b"\x85R.",
        "NEWOBJ": b"\x80\x02N)\x81.",
        "NEWOBJ_EX": b"\x80\x04N)}\x92.",
        "BUILD": b"\x80\x02N}b.",
        "EXT1": b"\x80\x02\x82\x01.",
        "EXT2": b"\x80\x02\x83\x01\x00.",
        "EXT4": b"\x80\x02\x84\x01\x00\x00\x00.",
        "PERSID": b"P" + path + b"\n.",
        "BINPERSID": text + b"Q.",
        "NEXT_BUFFER": b"\x80\x05\x97.",
    }


class TestNothingIsCalled:
    @pytest.mark.parametrize("opcode", crafted(""))
    def test_an_opcode_that_calls_is_refused(self, opcode, tmp_path):
        content = crafted(tmp_path / "made")[opcode]
        message = refusal(content)
        found = message.split("holds ")[1].split(" at")[0]
        assert found in {opcode, "GLOBAL"}  # OBJ is preceded by what it calls
        assert not (tmp_path / "made").exists()

    @pytest.mark.parametrize("opcode", ["GLOBAL", "STACK_GLOBAL", "INST", "OBJ"])
    def test_the_crafted_files_do_call_where_nothing_guards(self, opcode, tmp_path):
        pickle.loads(crafted(tmp_path / "made")[opcode])
        assert (tmp_path / "made").is_dir()

    @pytest.mark.parametrize("opcode", ["GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "PERSID", "BINPERSID"])
    def test_the_unpickler_would_hold_alone(self, opcode, tmp_path, monkeypatch):
        monkeypatch.setattr(plain_pickle, "_check_opcodes", lambda content, name: None)
        assert "it refers to" in refusal(crafted(tmp_path / "made")[opcode])
        assert not (tmp_path / "made").exists()

    def test_an_extension_that_was_used_before_is_refused(self, tmp_path):
        import copyreg

        copyreg.add_extension("os", "mkdir", 201)
        try:
            content = b"\x80\x02\x82\xc9" + pickle.dumps(str(tmp_path / "made"), 2)[2:-1] + b"\x85R."
            pickle.loads(content)  # from now on `pickle` finds it without calling find_class
            (tmp_path / "made").rmdir()
            assert "holds EXT1" in refusal(content)
            assert not (tmp_path / "made").exists()
        finally:
            copyreg.remove_extension("os", "mkdir", 201)
            copyreg.clear_extension_cache()

    def test_a_call_behind_plain_values_runs_nothing_before_it_is_seen(self, tmp_path):
        content = pickle.dumps({"a": [1.0]}, 2)[:-1] + crafted(tmp_path / "made")["GLOBAL"]
        assert "holds GLOBAL" in refusal(content)
        assert not (tmp_path / "made").exists()

    @pytest.mark.parametrize("value", [np.zeros(8), np.float32(1), {1, 2}, object(), 1j, bytearray(b"a")])
    def test_objects_are_refused(self, value):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert "which is refused: expected a pickle of plain values" in refusal(pickle.dumps(value, protocol))

    def test_every_other_opcode_of_python_is_refused(self):
        names = {opcode.name for opcode in pickletools.opcodes}
        assert names >= plain_pickle._ALLOWED
        assert names - plain_pickle._ALLOWED == {
            *(name for name in crafted("")),
            *("POP", "POP_MARK", "DUP", "EMPTY_SET", "ADDITEMS", "FROZENSET", "BYTEARRAY8", "READONLY_BUFFER"),
        }


class TestDamage:
    def test_every_truncation_is_refused(self):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            content = pickle.dumps({"a/face.png": [1.0, -2.5], "b": [3.0]}, protocol)
            for length in range(len(content)):
                assert "or only a part of one" in refusal(content[:length])

    @pytest.mark.parametrize("content", [b"", b"angry,happy\n", b"\x89PNG\r\n", b".", b"a.", b"0" * 50, b"\x80\xff."])
    def test_other_files(self, content):
        assert "expected a pickle of plain values" in refusal(content)

    @pytest.mark.parametrize(
        "content",
        [
            b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.",  # BINUNICODE8
            b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"a.",  # BINBYTES8
            b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01.",  # LONG4
            b"\x80\x02\x8b" + struct.pack("<i", -5) + b"\x01.",
            b"\x80\x02T" + struct.pack("<i", -5) + b"abc.",  # BINSTRING
            b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b".",  # LONG_BINPUT: a memo of 64 GB
            b"Np99999999999999999999\n.",  # PUT
            b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",  # FRAME
            b"I" + b"9" * 5000 + b"x\n.",
        ],
    )
    def test_counts_that_the_file_cannot_hold(self, content):
        assert "or only a part of one" in refusal(content)

    def test_a_key_of_many_levels_is_no_crash(self):
        for nested in (b")" + b"\x85" * 1_000_000, b"(" * 200_000 + b"t" * 200_000, b")q\x01(h\x01Nt\x85"):
            assert "the tuple at byte" in refusal(b"\x80\x02}" + nested + b"Ns.")

    def test_unhashable_keys(self):
        assert "unhashable" in refusal(b"\x80\x02}]Ns.")


class TestFiles:
    def test_missing_and_folder(self, tmp_path):
        for path in (tmp_path / "none.pickle", tmp_path):
            with pytest.raises(InputError, match=f"{path} cannot be read"):
                read_plain_pickle(path)

    def test_size_is_limited(self, tmp_path, monkeypatch):
        path = tmp_path / "p.pickle"
        path.write_bytes(pickle.dumps("x" * 100))
        monkeypatch.setattr(plain_pickle, "MAX_BYTES", path.stat().st_size)
        assert read_plain_pickle(path) == "x" * 100
        monkeypatch.setattr(plain_pickle, "MAX_BYTES", path.stat().st_size - 1)
        with pytest.raises(InputError, match="is larger than"):
            read_plain_pickle(path)

    def test_the_limit_stops_the_reading(self, tmp_path):
        path = tmp_path / "sparse.pickle"
        with open(path, "wb") as file:
            os.truncate(file.fileno(), 2**40)
        with pytest.raises(InputError, match="is larger than 30 MB"):
            read_plain_pickle(path)

    @pytest.mark.parametrize(("name", "entries"), [("CK", 1574), ("OuluCASIA", 1440)])
    def test_published_files_are_read_as_pickle_reads_them(self, shared, name, entries):
        path = shared / "microexpnet" / f"ResNet50_{name}_SoftmaxIn.pickle"
        value = read_plain_pickle(path)
        assert len(value) == entries
        assert value == pickle.load(io.BytesIO(path.read_bytes()), encoding="latin1")
