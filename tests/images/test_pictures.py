"""Own pictures: however they are stored and laid out, and in one sentence what cannot be taken."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from assignment.common import settings
from assignment.common.settings import AssignmentError
from assignment.images import pictures
from assignment.images.cifar10 import Split
from assignment.images.sample import SHAPES, draw_shapes

# A picture that is smooth, so that what compresses keeps it, and not the same turned or mirrored.
ROWS, COLUMNS = np.mgrid[0:48, 0:48]
PIXELS = np.stack([5 * ROWS, 2 * ROWS + 3 * COLUMNS, 250 - 5 * COLUMNS], 2).astype(np.uint8)
PICTURE = Image.fromarray(PIXELS)
GREY = PICTURE.convert("L")
CORRUPT = b"\xff\xd8\xff\xe0 no picture"
Save = Callable[[Path], object]


def folder_of(root: Path, **classes: int) -> Path:
    """Write so many small pictures of each class, each another one."""
    for label, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            colour = (40 * label, k, 255 - k)
            Image.new("RGB", (40 + k % 3, 36), colour).save(root / name / f"{k:03}.png")
    return root


def identities(split: Split) -> list[tuple[int, ...]]:
    """The colours of those pictures."""
    return [tuple(image[:, 16, 16].tolist()) for image in split.images]


# --- one picture ----------------------------------------------------------------------------------


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise when it is shown
    PICTURE.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


def sixteen_bits(path: Path) -> None:
    Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257).save(path)


def wide(path: Path) -> None:
    left, right = np.zeros((48, 30, 3), np.uint8), np.full((48, 30, 3), 255, np.uint8)
    Image.fromarray(np.hstack([left, PIXELS, right])).save(path)


def transparent(path: Path) -> None:
    PICTURE.quantize(255).save(path, transparency=bytes(range(255)))


GREYS = GREY.convert("RGB")
STORED: dict[str, tuple[str, Save, Image.Image, int]] = {
    "PNG": ("a.png", PICTURE.save, PICTURE, 0),
    "JPEG": ("a.JPEG", lambda path: PICTURE.save(path, quality=95), PICTURE, 6),
    "WebP": ("a.webp", lambda path: PICTURE.save(path, lossless=True), PICTURE, 0),
    "grey": ("a.png", GREY.save, GREYS, 0),
    "16 bit": ("a.png", sixteen_bits, GREYS, 0),
    "16 bit TIFF": ("a.tif", sixteen_bits, GREYS, 0),
    "CMYK": ("a.jpg", lambda path: PICTURE.convert("CMYK").save(path, quality=95), PICTURE, 6),
    "rotated by EXIF": ("a.png", rotated, PICTURE, 0),
    "palette, transparent": ("a.png", transparent, PICTURE, 16),
    "RGBA": ("a.png", lambda path: PICTURE.convert("RGBA").save(path), PICTURE, 0),
    "wide": ("a.bmp", wide, PICTURE, 0),
    "large": ("a.png", lambda path: PICTURE.resize((480, 480)).save(path), PICTURE, 6),
    "large JPEG": ("a.jpg", lambda path: PICTURE.resize((480, 480)).save(path), PICTURE, 6),
    "small": ("a.png", lambda path: PICTURE.resize((24, 24)).save(path), PICTURE, 12),
    "one pixel": ("a.ppm", Image.new("RGB", (1, 1), (1, 2, 3)).save,
                  Image.new("RGB", (48, 48), (1, 2, 3)), 0),
}  # fmt: skip


@pytest.mark.parametrize("kind", STORED)
def test_a_picture_is_the_same_however_it_is_stored(tmp_path: Path, kind: str) -> None:
    name, save, expected, tolerance = STORED[kind]
    folder_of(tmp_path, a=3, b=3)
    for old in list((tmp_path / "a").iterdir()):
        save(old.with_name(f"{old.stem}{name}"))
        old.unlink()
    train = pictures.load(tmp_path, side=48).train
    (found,) = train.images[train.labels == 0]
    assert (found.dtype, found.shape) == (torch.uint8, (3, 48, 48))
    distance = found.permute(1, 2, 0).numpy().astype(int) - np.asarray(expected)
    assert abs(distance).max() <= tolerance


# --- a folder -------------------------------------------------------------------------------------


def test_every_picture_lands_in_one_split_and_the_seed_decides_in_which(tmp_path: Path) -> None:
    folder_of(tmp_path, cat=20, dog=40, emu=3)
    for litter in ("cat/._000.png", "cat/notes.txt", ".cache/a.png", "__MACOSX/a.png"):
        (tmp_path / litter).parent.mkdir(exist_ok=True)
        (tmp_path / litter).write_bytes(CORRUPT)
    data = pictures.load(tmp_path)
    splits = (data.train, data.validation, data.test)
    assert data.classes == ("cat", "dog", "emu")
    assert [torch.bincount(split.labels).tolist() for split in splits] == [
        [14, 28, 1], [3, 6, 1], [3, 6, 1]
    ]  # fmt: skip
    colours = [colour for split in splits for colour in identities(split)]
    assert len(set(colours)) == 63
    for split in splits:
        assert split.labels.tolist() == [red // 40 for red, *_ in identities(split)]
    labels = data.train.labels
    assert not torch.equal(labels, labels.sort().values), "the first few are of several classes"
    assert pictures.load(str(tmp_path)).fingerprint == data.fingerprint
    other = pictures.load(tmp_path, seed=1)
    assert len(set(identities(other.test)) & set(identities(data.test))) < 8
    assert len(pictures.load(tmp_path, share=1 / 3).test) == 7 + 13 + 1
    assert repr(data) == f"{tmp_path.name}: 43 + 10 + 10 images of 3 classes"
    assert "<td>dog</td>\n      <td>28</td>\n      <td>6</td>" in data._repr_html_()
    assert (data.source.origin, data.source.detail[:11]) == ("other", "63 pictures")


@pytest.mark.parametrize(("layout", "sizes"), [
    (("train", "val", "test"), [30, 4, 4]),
    (("Training", "valid", "TEST"), [30, 4, 4]),
    (("train", "val"), [26, 4, 4]),
    (("train", "test"), [26, 4, 4]),
    (("train",), [22, 4, 4]),
])  # fmt: skip
def test_a_folder_that_is_split_is_taken_as_it_is(
    tmp_path: Path, layout: tuple[str, ...], sizes: list[int]
) -> None:
    for place, name in enumerate(layout):
        count = 2 if place else 15
        folder_of(tmp_path / name, ill=count, well=count)
    data = pictures.load(tmp_path)
    assert [len(split) for split in (data.train, data.validation, data.test)] == sizes


def test_many_pictures_are_stored_smaller_unless_a_side_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path, a=4, b=4)

    def side(**more: Any) -> int:
        return pictures.load(tmp_path, **more).test.images.shape[-1]

    assert [side(), side(side=40)] == [224, 40]
    monkeypatch.setattr(pictures, "BYTES", 8 * 3 * 130**2)
    assert [side(), side(side=192)] == [128, 192]
    monkeypatch.setattr(pictures, "BYTES", 1)
    assert side() == 64
    monkeypatch.undo()
    assert next(s for s in pictures.SIDES if 50_000 * 3 * s**2 <= pictures.BYTES) == 128


def test_what_cannot_be_read_is_left_out_if_that_is_asked_for(tmp_path: Path, capsys: Any) -> None:
    folder_of(tmp_path, a=9, b=9)
    whole = (tmp_path / "a" / "003.png").read_bytes()
    (tmp_path / "a" / "003.png").write_bytes(whole[:60])
    Image.fromarray(np.zeros((9, 9), np.float32)).save(tmp_path / "b" / "float.tif")
    found = pictures.load(tmp_path, skip_broken=True)
    line = capsys.readouterr().out
    assert re.match(r"2 of 19 pictures in .* cannot be read: .*They are left out\.\n$", line)
    assert "a/003.png (" in line.replace("\\", "/")
    assert "float.tif (what is white in pixels of type float is not known)" in line
    splits = (found.train, found.validation, found.test)
    colours = {colour for split in splits for colour in identities(split)}
    assert len(colours) == 17
    assert (0, 3, 252) not in colours


def broken(root: Path, count: int = 1, **classes: int) -> None:
    folder_of(root, **classes)
    for path in sorted(root.glob("*/*.png"))[:count]:
        path.write_bytes(CORRUPT)


def unknown_class(root: Path) -> None:
    folder_of(root / "train", ill=4, well=4)
    folder_of(root / "test", ill=4, sick=4)


def empty_test(root: Path) -> None:
    folder_of(root / "train", ill=4, well=4)
    (root / "test" / "ill").mkdir(parents=True)


LAYOUT = r"\. Expected is, for each of two or more classes, a folder of pictures .* test/\.$"
FAULTS: dict[str, tuple[Callable[[Path], object], dict[str, Any], str]] = {
    "nothing there": (Path.rmdir, {}, r"mine cannot be read \(No such file.*\)"),
    "no classes": (lambda root: PICTURE.save(root / "a.png"), {}, "mine holds 0 folders"),
    "one class": (lambda root: folder_of(root, a=9), {}, "mine holds 1 folders"),
    "too few": (lambda root: folder_of(root, a=9, b=2), {}, "b holds 2 pictures, expected 3 or m"),
    "unknown class": (unknown_class, {}, "test holds sick: no class of training"),
    "empty test": (empty_test, {}, "so few pictures can be read that a class or split is empty"),
    "all broken": (lambda root: broken(root, 9, a=9, b=9), {"skip_broken": True}, "so few pict"),
    "broken": (lambda root: broken(root, 4, a=3, b=5), {},
        r"4 of 8 .* cannot be read: a.000.png \(.*\), .*a.002.png \(.*\) and 1 more\. Mend"),
    "side": (lambda root: folder_of(root, a=4, b=4), {"side": 0}, "side is 0, expected 32 pixels"),
    "share": (lambda root: folder_of(root, a=4, b=4), {"share": 0.9}, "share is 0.9, expe"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_taken_ends_in_one_sentence(tmp_path: Path, fault: str) -> None:
    make, more, words = FAULTS[fault]
    (tmp_path / "mine").mkdir()
    make(tmp_path / "mine")
    with pytest.raises(AssignmentError) as caught:
        pictures.load(tmp_path / "mine", **more)
    message = str(caught.value)
    assert re.search(words, message), message
    assert message.endswith(".")
    assert "\n" not in message
    if isinstance(caught.value, pictures.PicturesError):
        assert re.search(LAYOUT, message)


# --- from a folder to a result --------------------------------------------------------------------


@pytest.mark.usefixtures("sample_mode")
def test_the_script_of_the_readme_trains_on_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    readme = (settings.PROJECT / "src" / "assignment" / "README.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n([^`]*pictures\.load[^`]*)```", readme)
    assert len(script.splitlines()) <= 15
    monkeypatch.setenv("ASSIGNMENT_FIGURES", str(tmp_path / "figures"))
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(1)
    for name, count in {"bars": 80, "disk": 40}.items():
        (tmp_path / "my-pictures" / name).mkdir(parents=True)
        shapes = draw_shapes(np.full(count, SHAPES.index(name)), draw)
        for j, pixels in enumerate(shapes.transpose(0, 2, 3, 1)):
            Image.fromarray(pixels).save(tmp_path / "my-pictures" / name / f"{j}.jpg")
    exec(script, {})
    out = capsys.readouterr().out
    shares = [float(found) / 100 for found in re.findall(r"(\d+\.\d)%(?= of| as)", out)]
    assert len(shares) == 4
    assert min(shares[:2]) > 0.7
    assert min(shares) > 0.5, "the sample allows a finetuning of three epochs"
    assert re.search(r"class +images +recall +taken for bars +taken for disk\n bars +12 ", out)
    assert (tmp_path / "figures" / "my-pictures.png").stat().st_size > 10_000
