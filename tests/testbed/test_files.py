"""Published files: found where they are, refused where they are not what they should be."""

from __future__ import annotations

import gzip
import hashlib
import re

import numpy as np
import pytest
import torch

from reinvest.core.errors import DataError, InvalidValue
from reinvest.testbed.tasks import cifar, files, mnist

SMALL = files.Published(
    name="small",
    title="small set",
    home="nowhere.example",
    archive="small.tar.gz",
    places=("", "small-bin"),
    files=(("a.bin", 6), ("b.bin", 4)),
    pickled=("small-py",),
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "small-bin").mkdir()
    (tmp_path / "small-bin" / "a.bin").write_bytes(b"\x01\x02\x03\x04\x05\x06")
    (tmp_path / "small-bin" / "b.bin").write_bytes(b"\x07\x08\x09\x0a")
    return tmp_path


def contents(folder, **options):
    return [part.tolist() for part in files.read(SMALL, folder, **options)]


def test_files_are_read_in_the_sets_order_from_the_folder_or_the_one_above(folder):
    for place in (folder, folder / "small-bin"):
        assert contents(place) == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10]]


def test_the_environment_names_the_folder(folder, monkeypatch, tmp_path_factory):
    monkeypatch.setenv(files.VARIABLE, str(folder))
    assert contents(None)[1] == [7, 8, 9, 10]
    monkeypatch.delenv(files.VARIABLE)
    (folder / "small-bin").rename(folder / "data")
    monkeypatch.chdir(folder)
    assert contents(None)[1] == [7, 8, 9, 10]


def test_gzipped_files_do(folder):
    path = folder / "small-bin" / "b.bin"
    path.with_name("b.bin.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()
    assert contents(folder)[1] == [7, 8, 9, 10]


def test_an_absent_set_says_what_where_and_how(tmp_path):
    with pytest.raises(DataError) as caught:
        files.read(SMALL, tmp_path / "gone")
    text = str(caught.value)
    for part in ("a.bin, b.bin", "small set", f"{tmp_path / 'gone'} (no such folder)", "small-bin", "small.tar.gz"):
        assert part in text
    assert "nowhere.example" in text and "folder=" in text and files.VARIABLE in text and "\n" not in text


def test_one_missing_file_is_named(folder):
    (folder / "small-bin" / "b.bin").unlink()
    with pytest.raises(DataError, match=r"reads b\.bin of the small set"):
        files.read(SMALL, folder)


def test_the_pickled_edition_is_never_opened(tmp_path):
    (tmp_path / "small-py").mkdir()
    (tmp_path / "small-py" / "data").write_bytes(b"cos\nsystem\n(S'touch harm'\ntR.")
    with pytest.raises(DataError, match=r"small-py is of the Python edition, .* never opened here; get small\.tar\.gz"):
        files.read(SMALL, tmp_path)


def test_an_archive_waits_to_be_unpacked(tmp_path):
    (tmp_path / "small.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match=re.escape(f"unpack {tmp_path / 'small.tar.gz'} there")):
        files.read(SMALL, tmp_path)


@pytest.mark.parametrize(("bytes_", "got"), [(b"", "got 0"), (b"123", "got 3"), (b"12345", "got 5")])
def test_another_size_is_refused(folder, bytes_, got):
    (folder / "small-bin" / "b.bin").write_bytes(bytes_)
    with pytest.raises(DataError, match=rf"b\.bin holds exactly 4 bytes, {got}"):
        files.read(SMALL, folder)


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (gzip.compress(b"123", mtime=0), "exactly 4 bytes, got 3"),
        (gzip.compress(b"1" * 1000, mtime=0), "exactly 4 bytes, got over 4"),
        (gzip.compress(b"1234", mtime=0)[:-3], "must be readable"),
        (gzip.compress(b"1234", mtime=0)[:10] + b"\xff" * 20, "must be readable"),
        (b"no gzip at all", "must be readable"),
    ],
)
def test_damaged_gzips_are_refused(folder, packed, message):
    (folder / "small-bin" / "b.bin").unlink()
    (folder / "small-bin" / "b.bin.gz").write_bytes(packed)
    with pytest.raises(DataError, match=message):
        files.read(SMALL, folder)


def test_a_checksum_covers_all_files_in_order(folder):
    right = hashlib.sha256(bytes(range(1, 11))).hexdigest()
    assert contents(folder, checksum=right.upper())[0][0] == 1
    with pytest.raises(DataError, match=f"must have sha256 {'0' * 64}, got {right}"):
        files.read(SMALL, folder, "0" * 64)
    with pytest.raises(InvalidValue, match="64 hex digits, got 'abc'"):
        files.read(SMALL, folder, "abc")


@pytest.mark.parametrize("wrong", [5, ""])
def test_a_folder_is_a_path(wrong):
    with pytest.raises(InvalidValue, match="folder is the path of a folder"):
        files.read(SMALL, wrong)


def test_names_beside_need_the_right_count(folder):
    (folder / "small-bin" / "names.txt").write_text("cat\ndog\n\n", encoding="utf8")
    assert files.names_beside(SMALL, folder, "names.txt", 2) == ["cat", "dog"]
    assert files.names_beside(SMALL, folder, "names.txt", 3) is None
    assert files.names_beside(SMALL, folder, "absent.txt", 2) is None


def test_idx_headers_are_checked():
    good = np.frombuffer(np.array([0x803, 2, 2, 1], ">i4").tobytes() + bytes([1, 2, 3, 4]), np.uint8)
    assert files.idx(good, (2, 2, 1), "f").tolist() == [[[1], [2]], [[3], [4]]]
    for wrong in ((0x801, 2, 2, 1), (0x803, 4, 1, 1)):
        values = np.frombuffer(np.array(wrong, ">i4").tobytes() + bytes(4), np.uint8)
        with pytest.raises(DataError, match="f starts with magic 0x0803 and sizes"):
            files.idx(values, (2, 2, 1), "f")


def blank(folder, published, place):
    """Files of the right sizes that hold zeros (sparse, so that they cost no disk)."""
    (folder / place).mkdir(parents=True)
    for name, size in published.files:
        with open(folder / place / name, "wb") as file:
            file.truncate(size)
    return folder / place


def test_cifar10_records_are_label_then_planes(tmp_path):
    place = blank(tmp_path, cifar.CIFAR10, "cifar-10-batches-bin")
    with open(place / "data_batch_2.bin", "r+b") as file:
        file.seek(3 * 3073)
        file.write(bytes([7]) + bytes([10]) * 1024 + bytes([20]) * 1024 + bytes([30]) * 1024)
    task = cifar.cifar10(folder=str(tmp_path), augment=None, train_examples=64)
    batches = {int(i): (x, y) for i, x, y in [next(iter(task.loader("test", 1)))]}
    assert list(batches) == [50_000] and task.class_names is None and task.input_shape == (3, 32, 32)
    pixel = task._source._x[10_003, :, 5, 5].tolist()
    assert pixel == [10, 20, 30] and int(task._source._y[10_003]) == 7
    with open(place / "test_batch.bin", "r+b") as file:
        file.write(bytes([10]))
    with pytest.raises(DataError, match=r"classes - 1 = 9, got 0\.\.10"):
        cifar.cifar10(folder=str(tmp_path))


def test_cifar10_of_another_size_is_refused(tmp_path):
    place = blank(tmp_path, cifar.CIFAR10, "cifar-10-batches-bin")
    with open(place / "data_batch_4.bin", "ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match=r"data_batch_4\.bin holds exactly 30,730,000 bytes, got 30,730,001"):
        cifar.cifar10(folder=str(tmp_path))


def test_cifar100_takes_the_fine_label(tmp_path):
    place = blank(tmp_path, cifar.CIFAR100, "cifar-100-binary")
    with open(place / "train.bin", "r+b") as file:
        file.seek(5 * 3074)
        file.write(bytes([19, 99]))
    task = cifar.cifar100(folder=str(tmp_path), augment=None)
    assert int(task._source._y[5]) == 99 and task.classes == 100


@pytest.mark.parametrize("factory", [cifar.cifar10, cifar.cifar100, mnist.mnist])
def test_absent_published_sets_are_one_sentence(factory, tmp_path):
    with pytest.raises(
        DataError, match=r"not found in .*get .*(kriz/cifar\.html|yann\.lecun\.com).*REINVEST_DATA"
    ) as caught:
        factory(folder=str(tmp_path))
    assert "\n" not in str(caught.value)


def test_mnist_reads_idx_and_refuses_another_magic(tmp_path):
    place = blank(tmp_path, mnist.PUBLISHED, "MNIST/raw")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte starts with magic 0x0803"):
        mnist.mnist(folder=str(tmp_path))
    for name, head in {
        "train-images-idx3-ubyte": [0x803, 60_000, 28, 28],
        "train-labels-idx1-ubyte": [0x801, 60_000],
        "t10k-images-idx3-ubyte": [0x803, 10_000, 28, 28],
        "t10k-labels-idx1-ubyte": [0x801, 10_000],
    }.items():
        with open(place / name, "r+b") as file:
            file.write(np.array(head, ">i4").tobytes())
    task = mnist.mnist(folder=str(place))
    ids, x, y = next(iter(task.loader("test", 4)))
    assert ids.tolist() == [60_000, 60_001, 60_002, 60_003] and x.shape == (4, 1, 28, 28)
    assert torch.equal(y, torch.zeros(4, dtype=torch.int64)) and len(task.splits["validation"]) == 5_000
