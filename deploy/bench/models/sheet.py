"""Pictures of the same prompts by each runtime side by side, a row for a prompt."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

ROWS, SIDE, HEAD = 8, 160, 22


def save_sheet(pictures: Mapping[str, np.ndarray], path: Path) -> None:
    """`pictures`: float32 [n, H, W, 3] by the name over their column. The first is also the reference: the last column
    shows ten times the difference of the last one to it."""
    names = list(pictures)
    columns = [pictures[name][:ROWS] for name in names]
    columns.append(np.clip(10 * np.abs(columns[-1] - columns[0]), 0, 1))
    cells = [_column(title, column) for title, column in zip([*names, "10 x difference"], columns, strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(cells, axis=1)[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 85])


def _column(title: str, pictures: np.ndarray) -> np.ndarray:
    head = np.full((HEAD, SIDE, 3), 255, np.uint8)
    cv2.putText(head, title, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    small = [cv2.resize((255 * one).round().astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
             for one in pictures]  # fmt: skip
    return np.concatenate([head, *small], axis=0)
