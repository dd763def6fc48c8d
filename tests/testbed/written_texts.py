"""Small texts and sentence files in the published layouts, written where a test wants them."""

from __future__ import annotations

from pathlib import Path

WORDS = [
    "the",
    "old",
    "clerk",
    "of",
    "the",
    "court",
    "had",
    "no",
    "use",
    "for",
    "a",
    "new",
    "pen,",
    "nor",
    "for",
    "naïve",
    "letters",
    "—",
    "“none”.\n",
]


def prose(words: int, start: int = 0) -> str:
    """A text of so many words, with letters of one to three bytes, several lines and runs of spaces."""
    return " ".join(WORDS[(start + k * k // 7) % len(WORDS)] + ("  " if k % 11 == 0 else "") for k in range(words))


def write_books(folder: Path, texts: tuple[str, str, str] | None = None) -> Path:
    """books/train.txt, valid.txt and test.txt in `folder`."""
    place = folder / "books"
    place.mkdir(exist_ok=True)
    found = texts or (prose(900), prose(150, 3), prose(200, 5))
    for name, text in zip(("train", "valid", "test"), found, strict=True):
        (place / f"{name}.txt").write_bytes(text.encode("utf8"))
    return folder


def write_rows(path: Path, rows: list[tuple[str, object]], header: str = "sentence\tlabel") -> None:
    """A file of sentences and labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *(f"{sentence}\t{label}" for sentence, label in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf8", newline="")


def write_questions(folder: Path, change: str | None = None) -> Path:
    """text/trec6 with 540 + 30 rows of 6 classes; `change` alters one "pixel" (a letter) or one "label"."""
    rows = [(f"{prose(2 + k % 5, k)} {k} ?".replace("\n", " "), k % 6) for k in range(570)]
    if change == "pixel":
        rows[7] = (rows[7][0].replace("?", "!"), rows[7][1])
    if change == "label":
        rows[7] = (rows[7][0], 5)
    write_rows(folder / "text" / "trec6" / "train.tsv", rows[:540])
    write_rows(folder / "text" / "trec6" / "test.tsv", rows[540:])
    return folder
