"""Ultralytics: YOLO11n from its configuration, on pictures that are made here."""

from pathlib import Path

import numpy as np
from PIL import Image
from ultralytics import YOLO

SIZE, COUNT = 640, 16

root = Path("pictures").resolve()
for part in ("images", "labels"):
    (root / part).mkdir(parents=True)
for number in range(COUNT):
    pixels = np.full((SIZE, SIZE, 3), number, dtype=np.uint8)
    Image.fromarray(pixels).save(root / "images" / f"{number}.png")
    (root / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.25 0.25\n1 0.2 0.2 0.1 0.1\n")
(root / "data.yaml").write_text(
    f"path: {root}\ntrain: images\nval: images\nnames: {{0: square, 1: circle}}\n"
)
YOLO("yolo11n.yaml").train(
    data=str(root / "data.yaml"), epochs=1, batch=8, imgsz=SIZE, amp=False, plots=False, workers=0
)
