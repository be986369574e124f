"""What pycocotools, and a plain port of Pascal VOC's devkit, say of drawn detections: test/fixtures/average-precision.json."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from generator import Generator

FIXTURE = Path(__file__).resolve().parents[2] / "test" / "fixtures" / "average-precision.json"
IMAGES = 14
CLASSES = 6  # the fifth is never found, the last is never there
BASES = (12, 50, 120)


def drawn():
    """For each image objects [class, left, top, width, height, ignored, area] and detections [class, left, top, width, height, score]."""
    generator = Generator("average precision")

    def whole(n):
        return generator.next() % n

    def score():
        return whole(33) / 32

    images = []
    for i in range(IMAGES):
        truth, found = [], []
        for _ in range(0 if i % 7 == 0 else 1 + i % 6):
            own, base = whole(5), BASES[whole(3)]
            left, top, width, height = whole(400) / 4, whole(400) / 4, base + whole(base), base + whole(base)
            truth.append([own, left, top, width, height, int(whole(6) == 0), width * height * (8 + whole(9)) / 16])
            if own == 4:
                continue
            for _ in range(whole(4)):
                shift = [(whole(base) - base // 2) / 4 for _ in range(4)]
                box = [left + shift[0], top + shift[1], max(1, width + shift[2]), max(1, height + shift[3])]
                found.append([own if whole(5) else (own + 1) % 4, *box, score()])
        for _ in range(3):
            box = [whole(400) / 4, whole(400) / 4, 1 + whole(100), 1 + whole(100)]
            found.append([(0, 1, 2, 3, 5)[whole(5)], *box, score()])
        images.append({"truth": truth, "found": found})
    # More detections of a class in an image than are looked at.
    crowded = images[3]
    crowded["truth"].append([0, 0, 0, 200, 200, 0, 40000])
    for at in range(120):
        crowded["found"].append([0, at / 4, whole(40) / 4, 200 - at / 2, 190, score()])
    # Overlaps and areas that are just at a limit; two objects and one detection between them.
    limits = images[4]
    limits["truth"] += [[1, 300, 300, 32, 32, 0, 1024], [2, 400, 300, 96, 96, 0, 9216]]
    limits["found"] += [[1, 300, 300, 32, 16, 1], [2, 400, 300, 96, 72, 0.5]]
    limits["truth"] += [[3, 300, 0, 40, 40, 0, 1600], [3, 320, 0, 40, 40, 0, 1600]]
    limits["found"] += [[3, 310, 0, 40, 40, 0.9375], [3, 310, 0, 40, 40, 0.9375]]
    # A crowd that holds several detections, beside an object to be found.
    images[5]["truth"] += [[2, 0, 200, 300, 100, 1, 30000], [2, 0, 200, 30, 30, 0, 900]]
    images[5]["found"] += [[2, 30 * k, 200, 30, 30, 0.75] for k in range(6)]
    return images


def coco(images):
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i + 1} for i in range(len(images))],
        "categories": [{"id": k + 1, "name": f"class{k}"} for k in range(CLASSES)],
        "annotations": [],
    }
    found = []
    for i, image in enumerate(images):
        for own, *box, ignored, area in image["truth"]:
            annotation = {"image_id": i + 1, "category_id": own + 1, "bbox": box, "iscrowd": ignored, "area": area}
            truth.dataset["annotations"].append({"id": len(truth.dataset["annotations"]) + 1, **annotation})
        for own, *box, score in image["found"]:
            found.append({"image_id": i + 1, "category_id": own + 1, "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]  # [T, R, K, A, M], [T, K, A, M]

    def mean(values):
        return None if (values < 0).all() else 100 * float(values[values > -1].mean())

    def measures(k):
        return [
            mean(precision[:, :, k, 0, 2]),
            *(mean(precision[t, :, k, 0, 2]) for t in (0, 5)),
            *(mean(precision[:, :, k, area, 2]) for area in (1, 2, 3)),
            *(mean(recall[:, k, 0, m]) for m in range(3)),
        ]

    every = measures(slice(None))
    assert np.allclose(every, 100 * evaluation.stats[:9])
    return {"all": every, "classes": [measures([k]) for k in range(CLASSES)]}


def voc_class(images, own):
    """VOCevaldet.m with overlaps above a half: boxes hold their last pixel."""

    def inclusive(box):
        left, top, width, height = box
        return left + 1, top + 1, left + width, top + height

    truth = [[(inclusive(t[1:5]), t[5]) for t in image["truth"] if t[0] == own] for image in images]
    positives = sum(not difficult for image in truth for _, difficult in image)
    if positives == 0:
        return [None, None]
    found = [(f[5], i, inclusive(f[1:5])) for i, image in enumerate(images) for f in image["found"] if f[0] == own]
    found.sort(key=lambda one: -one[0])
    taken = set()
    hits, misses = np.zeros(len(found)), np.zeros(len(found))
    for d, (_, i, box) in enumerate(found):
        best, match = -np.inf, None
        for j, (other, _) in enumerate(truth[i]):
            width = min(box[2], other[2]) - max(box[0], other[0]) + 1
            height = min(box[3], other[3]) - max(box[1], other[1]) + 1
            if width <= 0 or height <= 0:
                continue
            areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (box, other)]
            overlap = width * height / (sum(areas) - width * height)
            if overlap > best:
                best, match = overlap, j
        if best > 0.5:
            if not truth[i][match][1]:
                hits[d] = (i, match) not in taken
                misses[d] = (i, match) in taken
                taken.add((i, match))
        else:
            misses[d] = 1
    hits, misses = hits.cumsum(), misses.cumsum()
    recall = hits / positives
    precision = hits / np.maximum(hits + misses, np.finfo(float).eps)
    eleven = np.mean([max(precision[recall >= t / 10], default=0) for t in range(11)])
    recall, precision = np.r_[0, recall, 1], np.r_[0, precision, 0]
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    area = ((recall[steps + 1] - recall[steps]) * precision[steps + 1]).sum()
    return [100 * float(area), 100 * float(eleven)]


def voc(images):
    classes = [voc_class(images, own) for own in range(CLASSES)]
    known = np.array([own for own in classes if own[0] is not None])
    return {"all": known.mean(0).tolist(), "classes": classes}


def main():
    images = drawn()
    FIXTURE.write_text(json.dumps({"images": images, "coco": coco(images), "voc": voc(images)}) + "\n")


if __name__ == "__main__":
    main()
