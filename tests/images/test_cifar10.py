"""CIFAR-10: what is read, what is refused, and that nothing in a batch file ever runs."""

import contextlib
import copyreg
import dataclasses
import functools
import hashlib
import pickle
import struct
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
import torchvision
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st
from torch import Tensor

from assignment.common import settings
from assignment.images import cifar10, pixels, sample
from assignment.images.cifar10 import BatchError

COUNT = 20  # images in each file of the small folder
NAMES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")


def title_of(name: str) -> bytes:
    return (
        b"testing batch 1 of 1"
        if name == "test_batch"
        else f"training batch {name[-1]} of 5".encode()
    )


def small_batch(name: str, count: int = COUNT) -> dict[bytes, object]:
    """A batch like the official ones, with few images."""
    generator = np.random.default_rng(sum(name.encode()))
    return {
        b"batch_label": title_of(name),
        b"labels": [i % 10 for i in range(count)],
        b"data": generator.integers(0, 256, (count, 3072), dtype=np.uint8),
        b"filenames": [b"a.png"] * count,
    }


def small_meta(count: int = COUNT) -> dict[bytes, object]:
    labels = [f"class {i}".encode() for i in range(10)]
    return {b"num_cases_per_batch": count, b"label_names": labels, b"num_vis": 3072}


def write_folder(folder: Path, count: int = COUNT) -> Path:
    for name in (*NAMES, "test_batch"):
        (folder / name).write_bytes(sample.python2_pickle(small_batch(name, count)))
    (folder / "batches.meta").write_bytes(sample.python2_pickle(small_meta(count)))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path)


@functools.cache
def real() -> cifar10.Cifar10:
    return cifar10.read(settings.data_folder() / "cifar-10-batches-py")


def official(train: bool) -> tuple[Tensor, Tensor]:
    """Images and labels as torchvision reads them."""
    with warnings.catch_warnings():  # numpy's, about how the official pickles spell a dtype
        warnings.simplefilter("ignore")
        data = torchvision.datasets.CIFAR10(str(settings.data_folder()), train=train)
    return torch.from_numpy(data.data).permute(0, 3, 1, 2), torch.tensor(data.targets)


def digest(mask: Tensor) -> str:
    return hashlib.sha256(np.flatnonzero(mask.numpy()).astype("<i8").tobytes()).hexdigest()


# --- the official files ---------------------------------------------------------------------------


@pytest.mark.needs("real_data")
def test_train_and_validation_are_torchvisions_training_images() -> None:
    images, labels = official(train=True)
    validation = cifar10.validation_mask(labels)
    for part, chosen in ((real().train, ~validation), (real().validation, validation)):
        assert torch.equal(part.images, images[chosen])
        assert torch.equal(part.labels, labels[chosen])


@pytest.mark.needs("real_data")
def test_test_images_are_torchvisions() -> None:
    images, labels = official(train=False)
    assert torch.equal(real().test.images, images)
    assert torch.equal(real().test.labels, labels)


@pytest.mark.needs("real_data")
def test_class_names_are_torchvisions() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = torchvision.datasets.CIFAR10(str(settings.data_folder()), train=False)
    assert list(real().classes) == data.classes


@pytest.mark.needs("real_data")
def test_real_splits_are_exactly_stratified_and_fixed() -> None:
    data = real()
    per_class = [
        torch.bincount(s.labels).tolist() for s in (data.train, data.validation, data.test)
    ]
    assert per_class == [[4500] * 10, [500] * 10, [1000] * 10]
    mask = cifar10.validation_mask(official(train=True)[1])
    assert digest(mask) == "721d3fd60e6eddf2b6a0fe4b974428caaddef712f395667b003ee9df6bfbb994"


@pytest.mark.needs("real_data")
def test_pinned_checksums_are_those_of_the_files_torchvision_knows() -> None:
    known = torchvision.datasets.CIFAR10
    md5 = dict((*known.train_list, *known.test_list, (known.meta["filename"], known.meta["md5"])))
    assert set(md5) == set(cifar10.ARCHIVE.files)
    for name, sha256 in cifar10.ARCHIVE.files.items():
        raw = (settings.data_folder() / "cifar-10-batches-py" / name).read_bytes()
        assert hashlib.md5(raw).hexdigest() == md5[name]
        assert hashlib.sha256(raw).hexdigest() == sha256
    assert real().source.origin == "official"


def test_archive_is_the_one_torchvision_downloads() -> None:
    known = torchvision.datasets.CIFAR10
    assert known.url in cifar10.ARCHIVE.remote.urls
    assert cifar10.ARCHIVE.remote.name == known.filename
    assert cifar10.ARCHIVE.folder == known.base_folder


@pytest.mark.needs("real_data")
def test_channel_statistics_are_those_of_the_training_images() -> None:
    images = torch.cat([real().train.images, real().validation.images]).numpy()
    levels = np.arange(256) / 255
    for channel in range(3):
        share = np.bincount(images[:, channel].ravel(), minlength=256) / images[:, channel].size
        mean = share @ levels
        std = np.sqrt(share @ (levels - mean) ** 2)
        assert pixels.CIFAR[0][channel] == pytest.approx(mean, abs=5e-5)
        assert pixels.CIFAR[1][channel] == pytest.approx(std, abs=1e-4)


# --- the split ------------------------------------------------------------------------------------


def test_split_is_pinned_stratified_and_moves_with_its_seed() -> None:
    labels = torch.arange(50_000) % 10
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the split must not depend on it
    first, second = cifar10.validation_mask(labels), cifar10.validation_mask(labels, split=1)
    assert digest(first) == "39010c31f7e19609d4c8edfff2230d219e6de96c357c2fb04657b12db02238af"
    for mask in (first, second):
        assert torch.bincount(labels[mask]).tolist() == [500] * 10
    both = int((first & second).sum())
    assert 400 < both < 600, "two independent tenths share about a hundredth of 50,000"


@hypothesis.settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=200), split=st.integers(0, 2**32 - 1)
)
def test_split_takes_a_tenth_of_every_class(labels: list[int], split: int) -> None:
    mask = cifar10.validation_mask(torch.tensor(labels), split).tolist()
    for label in set(labels):
        chosen = [taken for taken, other in zip(mask, labels, strict=True) if other == label]
        assert abs(sum(chosen) - len(chosen) / 10) <= 0.5


@pytest.mark.parametrize("each", [1, 3, 100])
def test_a_few_are_the_first_of_every_class(folder: Path, each: int) -> None:
    whole = cifar10.read(folder)
    some = cifar10.first_per_class(whole, each)
    seen: Counter[int] = Counter()
    kept = [seen.update([label]) or seen[label] <= each for label in whole.train.labels.tolist()]
    assert torch.equal(some.train.images, whole.train.images[torch.tensor(kept)])
    assert torch.equal(some.train.labels, whole.train.labels[torch.tensor(kept)])
    assert (some.validation, some.test) == (whole.validation, whole.test)
    sources = {of.source.sha256 for of in (whole, some, cifar10.first_per_class(whole, each + 1))}
    assert len(sources) == 3
    assert f"{each} training images of each class" in some.source.detail


def test_every_image_lands_in_exactly_one_split(folder: Path) -> None:
    batches = [small_batch(name)[b"data"] for name in NAMES]
    written = {row.tobytes() for batch in batches for row in np.asarray(batch)}
    data = cifar10.read(folder)
    train, validation = (
        {image.numpy().tobytes() for image in part.images} for part in (data.train, data.validation)
    )
    assert (len(data.train), len(data.validation), len(data.test)) == (90, 10, 20)
    assert train | validation == written
    assert not train & validation
    other = cifar10.read(folder, split=1)
    assert not torch.equal(other.validation.images, data.validation.images)


# --- what comes out -------------------------------------------------------------------------------


def test_result_keeps_pixels_labels_types_and_cannot_be_changed(folder: Path) -> None:
    data = cifar10.read(folder)
    written = np.asarray(small_batch("test_batch")[b"data"])
    assert np.array_equal(data.test.images.numpy().reshape(COUNT, -1), written)
    assert data.test.labels.tolist() == small_batch("test_batch")[b"labels"]
    assert data.classes == tuple(f"class {i}" for i in range(10))
    for part in (data.train, data.validation, data.test):
        assert part.images.shape == (len(part), 3, 32, 32)
        assert (part.images.dtype, part.labels.dtype) == (torch.uint8, torch.int64)
        with pytest.raises(dataclasses.FrozenInstanceError):
            part.labels = part.labels  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.train = data.test  # type: ignore[misc]


def test_moving_to_a_device_keeps_everything(folder: Path) -> None:
    before = cifar10.read(folder).train
    there, same = before.to(torch.device("meta")), before.to(torch.device("cpu"))
    for field in ("images", "labels"):
        old, moved = getattr(before, field), getattr(there, field)
        assert moved.device.type == "meta"
        assert (moved.shape, moved.dtype) == (old.shape, old.dtype)
        assert torch.equal(getattr(same, field), old)


def test_small_files_are_labelled_as_not_official(folder: Path) -> None:
    assert cifar10.read(folder).source.origin == "other"


# --- files that would run something ---------------------------------------------------------------

RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
DTYPE = b"cnumpy\ndtype\n"


def text(value: str) -> bytes:
    raw = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(raw)) + raw


def string(value: str) -> bytes:
    """A string as Python 2 wrote it: the only kind an official batch has."""
    raw = value.encode()
    return pickle.BINSTRING + struct.pack("<i", len(raw)) + raw


def expression(path: Path) -> bytes:
    return string(f"__import__('pathlib').Path({str(path)!r}).touch()")


def command(path: Path) -> bytes:
    return string(f'echo run > "{path}"')


def consumed_map(path: Path, made: bytes) -> bytes:
    """tuple(map(eval, [expression])), which runs while it is being built."""
    mapped = b"cbuiltins\nmap\ncbuiltins\neval\n](" + expression(path) + b"e\x86" + made
    return b"cbuiltins\ntuple\n" + mapped + b"\x85" + made + b"."


ATTACKS: dict[str, Callable[[Path], bytes]] = {
    "os.system by GLOBAL and REDUCE": lambda p: b"cos\nsystem\n" + command(p) + b"\x85R.",
    "os.system by INST": lambda p: b"(" + command(p) + b"ios\nsystem\n.",
    "os.system by OBJ": lambda p: b"(cos\nsystem\n" + command(p) + b"o.",
    "os.system by STACK_GLOBAL": lambda p: (
        text("os") + text("system") + b"\x93" + command(p) + b"\x85R."
    ),
    "eval": lambda p: b"cbuiltins\neval\n" + expression(p) + b"\x85R.",
    "eval under its Python 2 name": lambda p: b"c__builtin__\neval\n" + expression(p) + b"\x85R.",
    "NEWOBJ": lambda p: consumed_map(p, b"\x81"),
    "NEWOBJ_EX": lambda p: consumed_map(p, b"}\x92"),
    "numpy.save": lambda p: b"cnumpy\nsave\n" + string(str(p)) + b"K\x01\x86R.",
    "EXT1": lambda p: b"\x82\xf0" + expression(p) + b"\x85R.",
    "EXT2": lambda p: b"\x83\xf0\x00" + expression(p) + b"\x85R.",
    "EXT4": lambda p: b"\x84\xf0\x00\x00\x00" + expression(p) + b"\x85R.",
}


@contextlib.contextmanager
def registered_extension() -> Iterator[None]:
    copyreg.add_extension("builtins", "eval", 0xF0)
    try:
        yield
    finally:
        copyreg.remove_extension("builtins", "eval", 0xF0)
        copyreg.clear_extension_cache()


@pytest.mark.parametrize("attack", ATTACKS)
def test_malicious_pickle_is_refused_and_nothing_runs(folder: Path, attack: str) -> None:
    control, marker = folder / "control.npy", folder / "marker.npy"
    with registered_extension():
        pickle.loads(ATTACKS[attack](control), encoding="latin1")
        assert control.exists(), "the attack must work on an unguarded reader"
        (folder / "data_batch_3").write_bytes(ATTACKS[attack](marker))
        with pytest.raises(BatchError, match=r"data_batch_3 cannot be read: it "):
            cifar10.read(folder)
    assert not marker.exists()


@pytest.mark.parametrize("attack", ["os.system by GLOBAL and REDUCE", "eval", "numpy.save"])
def test_attack_hidden_inside_a_good_batch_is_refused(folder: Path, attack: str) -> None:
    marker = folder / "marker.npy"
    good = (folder / "test_batch").read_bytes()
    hidden = good[:-2] + string("extra") + ATTACKS[attack](marker)[:-1] + good[-2:]
    (folder / "test_batch").write_bytes(hidden)
    with pytest.raises(
        BatchError, match=r"test_batch cannot be read: it asks for .*nothing was run"
    ):
        cifar10.read(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    "module_and_name",
    [
        "numpy.core.multiarray fromfile",
        "numpy.core.multiarray scalar",
        "numpy.core numeric",
        "numpy load",
        "numpy.lib.npyio load",
        "_codecs encode",
        "builtins getattr",
        "collections OrderedDict",
        "assignment.images.cifar10 _Array",
    ],
)
def test_names_that_no_batch_needs_are_refused(tmp_path: Path, module_and_name: str) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(b"c" + module_and_name.replace(" ", "\n").encode() + b"\n.")
    with pytest.raises(
        BatchError, match=rf"it asks for {module_and_name.replace(' ', '.')}, which"
    ):
        cifar10.unpickle(path)


TRICKS = {
    "persistent id": (b"Pos.system\n.", "PERSID"),
    "binary persistent id": (b"U\x01aQ.", "BINPERSID"),
    "a name inside a name": (text("os") + text("path.join") + b"\x93.", "BINUNICODE"),
    "memo fetched again": (b"]q\x00h\x00a.", "BINGET"),
    "nested tuples": (b"N" + b"\x85" * 5 + b".", "TUPLE1"),
    "nested lists": (b"]" * 5 + b"a" * 4 + b".", "EMPTY_LIST"),
    "a number of 2 GB": (b"\x8b\xff\xff\xff\x7f.", "LONG4|not enough data"),
    "a string of 2 GB": (b"T\xff\xff\xff\x7f.", "expected 2147483647 bytes"),
    "a string of negative length": (b"T\xff\xff\xff\xff.", "< 0"),
    "a byte array of 1 TB": (b"\x96" + bytes(5) + b"\x01\0\0.", "BYTEARRAY8|expected"),
    "not a dict": (b"]." , "holds a list, expected a dict"),
    "a class": (b"cnumpy\nndarray\n.", "holds a type, expected a dict"),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "reason"), TRICKS.values(), ids=TRICKS)
def test_tricks_without_a_name_are_refused(tmp_path: Path, raw: bytes, reason: str) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(b"\x80\x02" + raw)
    with pytest.raises(BatchError, match=rf"data_batch_1 .*({reason})"):
        cifar10.unpickle(path)


def test_numbered_memo_entry_cannot_exhaust_memory(tmp_path: Path) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(b"\x80\x02}r" + struct.pack("<I", 1 << 25) + b".")
    tracemalloc.start()
    try:
        with pytest.raises(BatchError, match="more than 1,000,000"):
            cifar10.unpickle(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_endless_and_huge_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data_batch_1"
    with path.open("wb") as file:
        file.truncate(cifar10.MOST_BYTES + 1)
    with pytest.raises(BatchError, match=r"has 40,000,001 bytes, expected 40,000,000 at most"):
        cifar10.unpickle(path)
    monkeypatch.setattr(cifar10, "MOST_STEPS", 100)
    path.write_bytes(b"(" * 200 + b".")
    with pytest.raises(BatchError, match="more than 100 steps"):
        cifar10.unpickle(path)


def pixels_of(shape: bytes, dtype: bytes, order: bytes, raw: bytes) -> bytes:
    """An array as numpy pickles it, of any kind."""
    made = RECONSTRUCT + b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    kind = DTYPE + b"U" + bytes([len(dtype)]) + dtype + b"K\x00K\x01\x87R"
    kind += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return made + b"(K\x01" + shape + kind + order + raw + b"tb"


SHAPE = b"K\x14M\x00\x0c\x86"
BYTES = pickle.BINSTRING + struct.pack("<i", COUNT * 3072) + bytes(COUNT * 3072)


def batch_with(pixels_or_labels: dict[bytes, bytes]) -> bytes:
    """data_batch_1 with some values given as pickle steps."""
    good = small_batch("data_batch_1")
    steps = b""
    for key, value in good.items():
        steps += pickle.SHORT_BINSTRING + bytes([len(key)]) + key
        steps += pixels_or_labels.get(key) or sample.python2_pickle(value)[2:-1]
    return b"\x80\x02}(" + steps + b"u."


OTHER_PIXELS = {
    "objects": (pixels_of(SHAPE, b"O8", b"\x89", b"](K\x01K\x02e"), "unsigned bytes"),
    "floats": (pixels_of(SHAPE, b"f8", b"\x89", BYTES), "unsigned bytes"),
    "signed": (pixels_of(SHAPE, b"i1", b"\x89", BYTES), "unsigned bytes"),
    "by column": (pixels_of(SHAPE, b"u1", b"K\x01", BYTES), "unsigned bytes"),
    "shape of more": (pixels_of(b"K\x15M\0\x0c\x86", b"u1", b"\x89", BYTES), "cannot reshape"),
    "shape of fewer": (
        pixels_of(b"K\x13M\x00\x0c\x86", b"u1", b"\x89", pickle.BINSTRING
        + struct.pack("<i", 19 * 3072) + bytes(19 * 3072)),
        r"shape \(19, 3072\), expected \(20, 3072\)",
    ),
    "four axes": (
        pixels_of(b"(K\x14K\x03K\x20K\x20t", b"u1", b"\x89", BYTES),
        r"shape \(20, 3, 32, 32\), expected \(20, 3072\)",
    ),
    "a list for the raw bytes": (pixels_of(SHAPE, b"u1", b"\x89", b"](K\0e"), "cannot be read"),
    "no state": (RECONSTRUCT + b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R", "holds no pixels"),
    "a list": (b"](K\x01K\x02e", "holds no pixels"),
    "bytes": (BYTES, "holds no pixels"),
}  # fmt: skip


@pytest.mark.parametrize(("steps", "fault"), OTHER_PIXELS.values(), ids=OTHER_PIXELS)
def test_pixels_of_another_kind_are_refused(folder: Path, steps: bytes, fault: str) -> None:
    (folder / "data_batch_1").write_bytes(batch_with({b"data": steps}))
    with pytest.raises(BatchError, match=rf"data_batch_1.*{fault}"):
        cifar10.read(folder)


def test_the_batches_that_these_tests_spoil_are_good_unspoilt(folder: Path) -> None:
    good = pixels_of(SHAPE, b"u1", b"\x89", BYTES)
    (folder / "data_batch_1").write_bytes(batch_with({b"data": good}))
    data = cifar10.read(folder)
    read = torch.cat([data.train.images, data.validation.images])
    assert sum(not image.any() for image in read) == COUNT


# --- damage ---------------------------------------------------------------------------------------


def rewrite(name: str, **changes: object) -> Callable[[Path], None]:
    """Write a file again with some values changed; None takes the key out."""

    def change(folder: Path) -> None:
        content = small_meta() if name == "batches.meta" else small_batch(name)
        content |= {key.encode(): value for key, value in changes.items()}
        kept = {key: value for key, value in content.items() if value is not None}
        (folder / name).write_bytes(sample.python2_pickle(kept))

    return change


def steps(name: str, **values: bytes) -> Callable[[Path], None]:
    return raw(name, lambda _: batch_with({key.encode(): value for key, value in values.items()}))


def raw(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return apply


def copied(source: str, target: str) -> Callable[[Path], None]:
    return lambda folder: raw(target, lambda _: (folder / source).read_bytes())(folder)


NOISE = np.random.default_rng(0).bytes(5000)
NINE = [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h", b"i"]
LABELS = list(range(10)) * 2
B1, META = "data_batch_1", "batches.meta"
DAMAGE: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "truncated": (B1, raw(B1, lambda b: b[: len(b) // 2]), "cannot be read"),
    "without its last byte": (B1, raw(B1, lambda b: b[:-1]), "cannot be read"),
    "empty": (B1, raw(B1, lambda b: b""), "cannot be read"),
    "random bytes": (B1, raw(B1, lambda b: NOISE), "cannot be read"),
    "zeros": (B1, raw(B1, lambda b: bytes(len(b))), "cannot be read"),
    "an error page": ("test_batch", raw("test_batch", lambda b: b"<html>404</html>"), "cannot be"),
    "fewer images": (
        "data_batch_4",
        rewrite("data_batch_4", data=np.zeros((19, 3072), np.uint8), labels=LABELS[:19]),
        r"shape \(19, 3072\), expected \(20, 3072\)",
    ),
    "narrower images": (
        B1, rewrite(B1, data=np.zeros((20, 3071), np.uint8)), r"shape \(20, 3071\), expected",
    ),
    "labels too short": (B1, rewrite(B1, labels=LABELS[:19]), "does not hold 20 labels"),
    "labels too long": (B1, rewrite(B1, labels=[*LABELS, 1]), "does not hold 20 labels"),
    "labels not a list": (B1, rewrite(B1, labels=bytes(20)), "does not hold 20 labels"),
    "label 10": (B1, rewrite(B1, labels=[*LABELS[:19], 10]), "whole number from 0 to 9"),
    "label -1": (B1, rewrite(B1, labels=[*LABELS[:19], -1]), "whole number from 0 to 9"),
    "label of bytes": (B1, rewrite(B1, labels=[*LABELS[:19], b"1"]), "whole number from 0 to 9"),
    "label False": (
        B1, steps(B1, labels=b"](" + b"K\x01" * 19 + b"\x89e"), "whole number from 0 to 9",
    ),
    "label True": (B1, steps(B1, labels=b"](" + b"K\x01" * 19 + b"\x88e"), "NEWTRUE"),
    "float label": (
        B1, steps(B1, labels=b"](" + b"K\x01" * 19 + b"G" + bytes(8) + b"e"), "BINFLOAT",
    ),
    "another batch": (
        "data_batch_2", copied(B1, "data_batch_2"),
        "title is b'training batch 1 of 5', expected 'training batch 2 of 5'",
    ),
    "the test batch for training": (
        "data_batch_5", copied("test_batch", "data_batch_5"), "title is b'testing batch 1 of 1'",
    ),
    "a training batch for the test": (
        "test_batch", copied(B1, "test_batch"), "expected 'testing batch 1 of 1'",
    ),
    "title of a megabyte": (
        B1, steps(B1, batch_label=b"T" + struct.pack("<i", 1 << 20) + b"a" * (1 << 20)),
        r"title is b?.{,40}, expected",
    ),
    "no title": (B1, rewrite(B1, batch_label=None), "title is None"),
    "no labels": (B1, rewrite(B1, labels=None), "does not hold 20 labels"),
    "no pixels": (B1, rewrite(B1, data=None), "holds no pixels"),
    "meta for a batch": (B1, copied(META, B1), "title is None"),
    "batch for the meta": (META, copied(B1, META), "num_cases_per_batch is None"),
    "meta with nine names": (
        META, rewrite(META, label_names=NINE), "9 label names",
    ),
    "meta with a name twice": (
        META, rewrite(META, label_names=[*NINE, b"a"]), "9 of them different",
    ),
    "meta with eleven names": (
        META, rewrite(META, label_names=[*NINE, b"j", b"j"]), "11 label names",
    ),
    "meta with numbers for names": (
        META, rewrite(META, label_names=LABELS[:10]), "not a list of names",
    ),
    "meta without names": (META, rewrite(META, label_names=None), "label_names"),
    "meta without a count": (
        META, rewrite(META, num_cases_per_batch=None), "is None, expected a count",
    ),
    "meta with a count of 0": (
        META, rewrite(META, num_cases_per_batch=0), "is 0, expected a count",
    ),
    "meta with another count": (
        B1, rewrite(META, num_cases_per_batch=21), r"expected \(21, 3072\) .batches.meta",
    ),
    "meta truncated": (META, raw(META, lambda b: b[:40]), "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_names_the_file_and_the_fault(folder: Path, damage: str) -> None:
    name, spoil, fault = DAMAGE[damage]
    spoil(folder)
    with pytest.raises(BatchError, match=rf"{name}(:| holds)? .*{fault}") as caught:
        cifar10.read(folder)
    assert "make data" in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", [*NAMES, "test_batch", "batches.meta"])
def test_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(settings.AssignmentError, match=rf"{name} missing in .*make data"):
        cifar10.read(folder)


# Two images a file, so that the chance to hit a byte that matters is high.
TINY = sample.python2_pickle(small_batch("data_batch_3", 2))
PIXELS_AT = TINY.index(np.asarray(small_batch("data_batch_3", 2)[b"data"]).tobytes())
STRUCTURE = [i for i in range(len(TINY)) if not PIXELS_AT <= i < PIXELS_AT + 2 * 3072]
ranges = st.tuples(
    st.sampled_from(STRUCTURE) | st.integers(0, len(TINY)), st.integers(0, 8), st.binary(max_size=8)
)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("tiny"), count=2)


def survives(folder: Path, damaged: bytes) -> None:
    """It reads as a valid batch or is refused in words, with little memory."""
    (folder / "data_batch_3").write_bytes(damaged)
    tracemalloc.start()
    try:
        data = cifar10.read(folder)
    except BatchError as error:
        assert "data_batch_3" in str(error)  # noqa: PT017 - both outcomes are right
    else:
        labels = torch.cat([data.train.labels, data.validation.labels])
        assert len(labels) == len(data.train.images) + len(data.validation.images) == 10
        assert labels.min() >= 0
        assert labels.max() <= 9
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 5_000_000


@hypothesis.settings(
    max_examples=400, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=ranges)
@example(where=(0, 0, b""))
@example(where=(3, 0, b"r\xff\xff\xff\x01"))
@example(where=(3, 0, b"T\xff\xff\xff\x7f"))
def test_any_corrupted_range_is_read_or_refused(
    tiny_folder: Path, where: tuple[int, int, bytes]
) -> None:
    start, length, new = where
    survives(tiny_folder, TINY[:start] + new + TINY[start + length :])


@hypothesis.settings(max_examples=100, deadline=10_000)
@given(length=st.sampled_from(STRUCTURE) | st.integers(0, len(TINY) - 1))
def test_any_truncation_is_refused(tiny_folder: Path, length: int) -> None:
    (tiny_folder / "data_batch_3").write_bytes(TINY[:length])
    with pytest.raises(BatchError, match="data_batch_3 cannot be read"):
        cifar10.read(tiny_folder)
