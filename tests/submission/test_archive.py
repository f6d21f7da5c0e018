"""The zip of a submission: its format, written out here by hand, and zips with one thing wrong."""

import io
import struct
import zipfile

import numpy as np
import pytest
from typer.testing import CliRunner

from glue_mva.cli import app
from glue_mva.errors import UsageError
from glue_mva.submission.archive import check_submission, write_submission
from glue_mva.submission.files import FILES, to_values

OFFICIAL = {  # rows and values of https://gluebenchmark.com's sample submission
    "CoLA": (1063, "1"), "SST-2": (1821, "0"), "MRPC": (1725, "1"), "QQP": (390965, "0"), "WNLI": (146, "0"),
    "STS-B": (1379, "2.500"), "MNLI-m": (9796, "neutral"), "MNLI-mm": (9847, "contradiction"),
    "AX": (1104, "entailment"), "QNLI": (5463, "not_entailment"), "RTE": (3000, "entailment"),
}  # fmt: skip


def content(name, value=None, rows=None):
    official, default = OFFICIAL[name]
    lines = [f"{i}\t{value or default}" for i in range(official if rows is None else rows)]
    return "\n".join(["index\tprediction", *lines]) + "\n"


def make_zip(path, names=OFFICIAL, **changes):
    """The official submission of constant predictions, or some files of it; `changes`: file stem with _ for - -> other
    content or None."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            text = changes.get(name.replace("-", "_"), content(name))
            if text is not None:
                archive.writestr(f"{name}.tsv", text)
    return path


def test_constant_predictions_with_the_official_counts_pass(tmp_path):
    path = make_zip(tmp_path / "constant.zip")
    check = check_submission(path)
    assert check.problems == [] and set(check.counts) == {f"{name}.tsv" for name in OFFICIAL}
    assert check.counts["RTE.tsv"] == {"entailment": 3000}
    done = CliRunner().invoke(app, ["submit", "--check", str(path)])
    assert done.exit_code == 0 and "11 files" in done.output and "2.5 to 2.5, mean 2.500" in done.output


def test_every_file_is_written_as_the_server_reads_it(tmp_path):
    """Rows of all eleven files scaled to 4, against bytes written out by hand."""
    logits = np.array([[2, 1], [0, 1], [0, 1], [5, 4]], dtype=np.float32)
    three = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 0]], dtype=np.float32)
    scores = np.array([-0.3, 2.34567, 5.2, 4.9996])
    outputs = {name: three if len(f.values) == 3 else logits if f.values else scores for name, f in FILES.items()}
    values = {name: to_values(FILES[name], outputs[name]) for name in FILES}
    rows = dict.fromkeys(FILES, 4)
    write_submission(values, tmp_path / "a.zip", rows)
    write_submission(values, tmp_path / "b.zip", rows)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    digits = b"index\tprediction\n0\t0\n1\t1\n2\t1\n3\t0\n"
    words = b"index\tprediction\n0\tentailment\n1\tnot_entailment\n2\tnot_entailment\n3\tentailment\n"
    nli = b"index\tprediction\n0\tcontradiction\n1\tentailment\n2\tneutral\n3\tneutral\n"
    expected = dict.fromkeys(("CoLA", "SST-2", "MRPC", "QQP", "WNLI"), digits) | dict.fromkeys(("QNLI", "RTE"), words)
    expected |= dict.fromkeys(("MNLI-m", "MNLI-mm", "AX"), nli)
    expected["STS-B"] = b"index\tprediction\n0\t0.000\n1\t2.346\n2\t5.000\n3\t5.000\n"
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            f"{name}.tsv": text for name, text in expected.items()
        }
    assert check_submission(tmp_path / "a.zip", rows=rows).problems == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"RTE": None, "AX": None}, "missing: AX.tsv, RTE.tsv"),
        ({"RTE": content("RTE", rows=2999)}, "RTE.tsv: 2,999 rows where 3,000 belong"),
        ({"RTE": content("RTE", rows=3001)}, "RTE.tsv: 3,001 rows where 3,000 belong"),
        ({"RTE": ""}, "RTE.tsv: empty"),
        ({"RTE": content("RTE", "0")}, "RTE.tsv, line 2: '0' is none of entailment, not_entailment"),
        ({"WNLI": content("WNLI", "entailment")}, "WNLI.tsv, line 2: 'entailment' is none of 0, 1"),
        ({"CoLA": content("CoLA", '"1"')}, "CoLA.tsv, line 2: quotation marks"),
        ({"CoLA": content("CoLA").replace("\n", "\r\n")}, "CoLA.tsv: carriage returns"),
        ({"CoLA": content("CoLA").replace("\n5\t", "\n6\t")}, "CoLA.tsv, line 7: index '6' where 5 belongs"),
        ({"CoLA": content("CoLA").replace("\t", ",")}, "CoLA.tsv, line 1: 'index,prediction' where the header"),
        ({"CoLA": content("CoLA").partition("\n")[2]}, "CoLA.tsv, line 1: '0\\t1' where the header"),
        ({"CoLA": content("CoLA", "1\t1")}, "CoLA.tsv, line 2: 3 columns"),
        ({"CoLA": content("CoLA", "é").encode("latin-1")}, "CoLA.tsv: not UTF-8 at byte 19"),
        ({"CoLA": "\ufeff" + content("CoLA")}, "CoLA.tsv, line 1: '\\ufeffindex\\tprediction'"),
        ({"STS_B": content("STS-B", "5.001")}, "STS-B.tsv, line 2: '5.001' is no number in 0..5"),
        ({"STS_B": content("STS-B", "nan")}, "STS-B.tsv, line 2: 'nan' is no number"),
        ({"STS_B": content("STS-B", "-1")}, "STS-B.tsv, line 2: '-1' is no number"),
    ],
)
def test_a_zip_with_one_thing_wrong(changes, said, tmp_path):
    missing = None in changes.values()  # QQP, whose rows are three quarters of all, is there where that matters only
    names = OFFICIAL if missing else [name for name in OFFICIAL if name != "QQP"]
    path = make_zip(tmp_path / "x.zip", names, **changes)
    (problem,) = check_submission(path, partial=not missing).problems
    assert problem.startswith(said)
    done = CliRunner().invoke(app, ["submit", "--check", str(path)])
    assert done.exit_code == 1 and f"wrong: {problem}" in done.output


def test_files_that_do_not_belong(tmp_path):
    path = make_zip(tmp_path / "x.zip", CoLA=None, RTE=None)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("submission/CoLA.tsv", content("CoLA"))
        archive.writestr("README.md", "")
        archive.writestr("WNLI.tsv", content("WNLI"))
    assert check_submission(path, partial=True).problems == [
        "WNLI.tsv: there 2 times",
        "'submission/CoLA.tsv': inside a folder; the zip is flat",
        "'README.md': no file of GLUE",
    ]


def test_damaged_and_hostile_zips(tmp_path):
    path = make_zip(tmp_path / "x.zip")
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("WNLI.tsv")
    packed = entry.header_offset + 30 + len("WNLI.tsv")
    path.write_bytes(whole[:packed] + b"\0\0\0\0" + whole[packed + 4 :])
    (problem,) = check_submission(path).problems
    assert problem.startswith("WNLI.tsv: cannot be unpacked")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match="not a zip file"):
        check_submission(path)
    with pytest.raises(UsageError, match="No such file"):
        check_submission(tmp_path / "nowhere.zip")
    with pytest.raises(UsageError, match="directory"):
        check_submission(tmp_path)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("RTE.tsv", bytes(2**26 + 1))
    assert check_submission(bomb, partial=True).problems == ["RTE.tsv: 67,108,865 bytes, too many for 3,000 rows"]
    locked = io.BytesIO()
    with zipfile.ZipFile(locked, "w") as archive:
        archive.writestr("RTE.tsv", content("RTE"))
    data = bytearray(locked.getvalue())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # the flag of an encrypted entry
        struct.pack_into("<H", data, data.find(signature) + offset, 1)
    (problem,) = check_submission(io.BytesIO(data), partial=True).problems
    assert problem.startswith("RTE.tsv: cannot be unpacked") and "encrypted" in problem


def test_outputs_that_cannot_be_submitted(tmp_path):
    with pytest.raises(ValueError, match="not finite"):
        to_values(FILES["STS-B.tsv"], np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match=r"shape \(4, 2\) where \(4, 3\)"):
        to_values(FILES["AX.tsv"], np.zeros((4, 2)))
    with pytest.raises(UsageError, match="2 rows where 3,000 belong"):
        write_submission({"RTE.tsv": ["entailment"] * 2}, tmp_path / "x.zip")
    assert not list(tmp_path.iterdir())
