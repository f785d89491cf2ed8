"""Faces: alignment and detection against independent computations, insightface itself, and real clips."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from idlora_pl.media.clip import Clip
from idlora_pl.media.reading import read_clip
from idlora_pl.media.writing import write_image
from idlora_pl.metrics.clip_mean import Expected
from idlora_pl.metrics.face import FaceSimilarity, spread_frames
from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.scorers.face.cards import closest_and_farthest, lfw_accuracy, lfw_pairs, pair_accuracy
from idlora_pl.scorers.face.embedding import (
    TEMPLATE,
    AlignedFace,
    OnnxNetwork,
    Scrfd,
    aligned_faces,
    load_arcface,
    load_mobilefacenet,
    similarities,
)
from idlora_pl.scorers.face.mtcnn import Faces
from idlora_pl.scorers.registry import CARDS

onnx = pytest.importorskip("onnx", reason="builds small networks of the published layouts")
GREY = (127.5, 127.5, 127.5)


def save(nodes: list, weights: dict[str, np.ndarray], shape: list, outputs: dict[str, list], path: Path) -> Path:
    """Write a network of one input `input.1`."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input.1", kind, shape)],
        [helper.make_tensor_value_info(name, kind, sizes) for name, sizes in outputs.items()],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def test_errors_of_onnxruntime_become_ordinary_ones(tmp_path):
    node = onnx.helper.make_node("Relu", ["input.1"], ["out"])
    path = save([node], {}, [1, 3, 8, 8], {"out": [1, 3, 8, 8]}, tmp_path / "small.onnx")
    assert OnnxNetwork(path, 1)(-torch.ones(1, 3, 8, 8))[0].abs().max() == 0
    with pytest.raises(RuntimeError, match=r"small.onnx failed on images \(1, 3, 9, 8\)") as caught:
        OnnxNetwork(path, 1)(torch.zeros(1, 3, 9, 8))
    assert type(caught.value.__cause__).__module__.startswith("onnxruntime")
    (tmp_path / "text.onnx").write_text("404")
    with pytest.raises(ValueError, match=r"text.onnx is no network that onnxruntime reads .*; get the file again"):
        OnnxNetwork(tmp_path / "text.onnx", 1)


@pytest.fixture(scope="module")
def buffalo(tmp_path_factory) -> Path:
    """A weights folder with networks of the inputs and outputs of buffalo_l, with random weights."""
    folder = tmp_path_factory.mktemp("weights")
    node, draw = onnx.helper.make_node, np.random.default_rng(4)
    parts = {"score": (2, 1), "box": (8, 4), "points": (20, 10)}
    nodes, weights, outputs = [], {}, {}
    for part, (channels, width) in parts.items():
        weights[f"{part}.width"] = np.array([-1, width], np.int64)
        for stride in (8, 16, 32):
            name = f"{part}{stride}"
            scale, offset = {"score": (5, 0.0), "box": (1, 3.0), "points": (2, 0.0)}[part]
            weights[f"{name}.weight"] = (scale * draw.normal(size=(channels, 3, 1, 1))).astype(np.float32)
            weights[f"{name}.bias"] = (offset + draw.normal(size=channels)).astype(np.float32)
            if part == "score":  # black is no face, and few places are one
                weights[f"{name}.bias"] = weights[f"{name}.weight"].sum((1, 2, 3)) - 9
            nodes.append(
                node("AveragePool", ["input.1"], [f"{name}.seen"], kernel_shape=[stride] * 2, strides=[stride] * 2)
            )
            nodes.append(node("Conv", [f"{name}.seen", f"{name}.weight", f"{name}.bias"], [f"{name}.map"]))
            kind = {"score": "Sigmoid", "box": "Relu", "points": "Identity"}[part]
            nodes.append(node(kind, [f"{name}.map"], [f"{name}.bounded"]))
            nodes.append(node("Transpose", [f"{name}.bounded"], [f"{name}.last"], perm=[0, 2, 3, 1]))
            nodes.append(node("Reshape", [f"{name}.last", f"{part}.width"], [name]))
            outputs[name] = ["places", width]
    save(nodes, weights, [1, 3, "height", "width"], outputs, folder / "face/buffalo_l/det_10g.onnx")
    weights = {
        "weight": (0.1 * draw.normal(size=(8, 3, 16, 16))).astype(np.float32),
        "dense": (0.1 * draw.normal(size=(8 * 49, 512))).astype(np.float32),
    }
    nodes = [
        node("Conv", ["input.1", "weight"], ["map"], strides=[16, 16]),
        node("Tanh", ["map"], ["bent"]),
        node("Flatten", ["bent"], ["flat"]),
        node("MatMul", ["flat", "dense"], ["683"]),
    ]
    save(nodes, weights, ["batch", 3, 112, 112], {"683": [1, 512]}, folder / "face/buffalo_l/w600k_r50.onnx")
    return folder


def pictures(n: int, height: int, width: int) -> torch.Tensor:
    """Frames of smooth random colours."""
    coarse = torch.rand(n, 3, 9, 9, generator=torch.Generator().manual_seed(6))
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    return (255 * smooth).round().to(torch.uint8)


def turned(points: torch.Tensor, degrees: float, scale: float, move: tuple[float, float]) -> torch.Tensor:
    angle = torch.deg2rad(torch.tensor(degrees))
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    return scale * points @ turn.T + torch.tensor(move)


def test_the_map_to_the_template_has_the_least_squared_error():
    generator = torch.Generator().manual_seed(0)
    places = turned(torch.tensor(TEMPLATE), 25.0, 2.5, (80.0, 30.0)) + 4 * torch.randn(3, 5, 2, generator=generator)
    turn, move = similarities(places)
    for index, points in enumerate(places.double().numpy()):
        x, y, one, zero = points[:, 0], points[:, 1], np.ones(5), np.zeros(5)
        rows = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
        wanted = np.array(TEMPLATE).T.reshape(-1)
        best = np.linalg.lstsq(rows, wanted, rcond=None)[0]
        found = [turn[index].real, turn[index].imag, move[index].real, move[index].imag]
        np.testing.assert_allclose(np.array(found), best, atol=1e-9)


def test_a_face_that_lies_as_the_template_is_cut_out_as_it_is():
    frames = pictures(2, 130, 150)
    template = torch.tensor(TEMPLATE)
    crops = aligned_faces(frames, torch.stack([template, template + torch.tensor([30.0, 10.0])]))
    assert torch.equal(crops[0], frames[0, :, :112, :112])
    assert torch.equal(crops[1], frames[1, :, 10:122, 30:142])
    beyond = aligned_faces(frames[:1], template[None] - torch.tensor([50.0, 0.0]))
    assert beyond[0, :, :, :49].max() == 0
    assert torch.equal(beyond[0, :, :, 50:], frames[0, :, :112, :62])


def test_a_turned_face_is_cut_out_as_opencv_does():
    cv2 = pytest.importorskip("cv2")
    frame = pictures(1, 300, 400)
    places = turned(torch.tensor(TEMPLATE), -18.0, 1.7, (120.0, 90.0))[None]
    turn, move = similarities(places)
    a, b = turn[0], move[0]
    matrix = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
    theirs = cv2.warpAffine(frame[0].permute(1, 2, 0).numpy(), matrix, (112, 112), borderValue=0.0)
    ours = aligned_faces(frame, places)[0].permute(1, 2, 0).numpy()
    # OpenCV rounds places to 1/32 pixel
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 2


def test_detection_equals_a_loop_over_places(buffalo):
    network = OnnxNetwork(buffalo / "face/buffalo_l/det_10g.onnx", 9)
    frame = pictures(1, 320, 320)
    (found,) = Scrfd(network, threshold=0.9)(frame)
    outputs = [one.numpy() for one in network((frame.float() - 127.5) / 128)]
    faces = []
    for level, stride in enumerate((8, 16, 32)):
        for place in range((320 // stride) ** 2):
            x, y = place % (320 // stride) * stride, place // (320 // stride) * stride
            for anchor in (2 * place, 2 * place + 1):
                score, box, points = (outputs[level + 3 * part][anchor] for part in range(3))
                if score[0] >= 0.9:
                    left, top, right, bottom = stride * box
                    edges = (x - left, y - top, x + right, y + bottom)
                    faces.append((score[0], edges, points.reshape(5, 2) * stride + (x, y)))
    faces.sort(key=lambda face: -face[0])
    kept = []
    for face in faces:
        if all(overlap(face[1], other[1]) <= 0.4 for other in kept):
            kept.append(face)
    assert 3 < len(kept) < len(faces)
    np.testing.assert_allclose(found.scores.numpy(), [face[0] for face in kept], atol=1e-6)
    np.testing.assert_allclose(found.boxes.numpy(), [face[1] for face in kept], atol=1e-3)
    np.testing.assert_allclose(found.landmarks.numpy(), [face[2] for face in kept], atol=1e-3)


def overlap(a, b) -> float:
    """Intersection over union of boxes of whole pixels."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize("size", [(240, 400), (500, 333), (96, 96)])
def test_boxes_come_back_in_pixels_of_the_frame(buffalo, size):
    detector = Scrfd(OnnxNetwork(buffalo / "face/buffalo_l/det_10g.onnx", 9), threshold=0.8)
    small = pictures(1, *size)
    large = small.repeat_interleave(4, 2).repeat_interleave(4, 3)
    (a,), (b,) = detector(small), detector(large)
    assert len(a.boxes)
    assert abs(b.boxes[0] / 4 - a.boxes[0]).max() < 8


@pytest.mark.parametrize("size", [(320, 320), (288, 360), (700, 500), (90, 111)])
def test_arcface_equals_insightface_on_random_weights(buffalo, size):
    model_zoo = pytest.importorskip("insightface.model_zoo", reason="compares with insightface where it is installed")
    folder = buffalo / "face/buffalo_l"
    detector = model_zoo.SCRFD(str(folder / "det_10g.onnx"))
    detector.prepare(-1, input_size=(320, 320), det_thresh=0.3)
    recogniser = model_zoo.ArcFaceONNX(str(folder / "w600k_r50.onnx"))
    ours = load_arcface(folder / "det_10g.onnx", folder / "w600k_r50.onnx")
    frame = pictures(1, *size)
    picture = frame[0].flip(0).permute(1, 2, 0).numpy()
    boxes, points = detector.detect(picture)
    (found,) = ours.detector(frame)
    # OpenCV's smaller frames differ by one of 255 here and there, which also swaps faces of about the same probability
    near = 1e-3 if size == (320, 320) else 0.6 * max(1, max(size) / 320)
    apart = np.abs(found.boxes.numpy()[None] - boxes[:, None, :4]).max(2)
    assert (apart.min(1) < near).mean() >= (1 if near < 0.1 else 0.97)
    same = apart.min(1) < near
    np.testing.assert_allclose(found.landmarks.numpy()[apart.argmin(1)][same], points[same], atol=2 * near)
    assert len(found.boxes) == pytest.approx(len(boxes), rel=0.03)
    largest = np.argmax((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    face = type("Face", (), {"kps": points[largest]})()
    theirs = torch.from_numpy(recogniser.get(picture, face))
    assert torch.nn.functional.cosine_similarity(ours.embed(frame)[0], theirs, dim=0) > (
        0.9999 if near < 0.1 else 0.998
    )


def test_the_largest_face_of_each_frame_is_embedded_with_the_given_colours(buffalo):
    template = torch.tensor(TEMPLATE)
    boxes = torch.tensor([[0.0, 0.0, 50.0, 50.0], [0.0, 0.0, 60.0, 60.0]])
    both = Faces(boxes, torch.tensor([0.99, 0.9]), torch.stack([template, template + 20]))
    none = Faces(boxes[:0], torch.zeros(0), torch.zeros(0, 5, 2))
    network = OnnxNetwork(buffalo / "face/buffalo_l/w600k_r50.onnx", 1)
    frames = pictures(3, 150, 150)
    embedder = AlignedFace(lambda pixels: [both, none, both], network, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    by_hand = [
        (frame[:, 20:132, 20:132].float() - torch.tensor([1.0, 2.0, 3.0])[:, None, None])
        / torch.tensor([4.0, 5.0, 6.0])[:, None, None]
        for frame in frames[[0, 2]]
    ]
    expected = torch.cat([network(one[None])[0] for one in by_hand])
    torch.testing.assert_close(embedder.embed(frames), expected)
    with pytest.raises(Unscorable, match="no_face"):
        AlignedFace(lambda pixels: [none], network, mean=GREY, std=GREY).embed(frames[:1])


def test_the_card_of_arcface_scores_with_networks_of_its_layout(buffalo):
    metric = CARDS["face_sim"].build(buffalo)
    clip = Clip(pictures(6, 200, 300), torch.zeros(1, 16000), 25.0, 16000)
    score = metric.score_clip(clip, Expected(target=clip))
    assert score.values["face_sim"] == pytest.approx(1, abs=1e-6)
    again = pickle.loads(pickle.dumps(metric)).score_clip(clip, Expected(target=clip))
    assert again.values == score.values


def test_networks_with_other_outputs_and_missing_or_wrong_files_are_refused(buffalo, tmp_path):
    with pytest.raises(ValueError, match="must have 1 input and 9 outputs; it has 1 and 1"):
        OnnxNetwork(buffalo / "face/buffalo_l/w600k_r50.onnx", 9)
    with pytest.raises(ValueError, match=r"det_10g.onnx is missing; get it with: curl .+buffalo_l.zip"):
        CARDS["face_sim"].load(tmp_path)
    with pytest.raises(ValueError, match="the published file 5838f7fe053675b1"):
        CARDS["face_sim"].load(buffalo)
    with pytest.raises(ValueError, match=r"foamliu_MobileFaceNet.onnx is missing; get it with: curl"):
        CARDS["face_sim_mobilefacenet"].load(tmp_path)


@pytest.fixture(scope="module")
def mobilefacenet(checkpoints) -> FaceSimilarity:
    return CARDS["face_sim_mobilefacenet"].load(checkpoints)


@pytest.mark.slow
def test_the_anchor_of_mobilefacenet_passes_on_real_faces(mobilefacenet, media):
    anchor = CARDS["face_sim_mobilefacenet"].anchor
    measured = anchor.measure(mobilefacenet, media)
    for name, expected in anchor.expected.items():
        assert measured[name] == pytest.approx(expected, abs=anchor.tolerance[name]), name


@pytest.mark.slow
def test_all_grid_clips_separate_as_recorded(mobilefacenet, media):
    found = closest_and_farthest(mobilefacenet.embedder, sorted((media / "grid").glob("*/*.mpg")))
    assert found["same"] >= 0.907
    assert found["different"] <= 0.407


def test_a_real_clip_is_itself_at_any_size_and_frames_do_not_change_each_other(mobilefacenet, media):
    small, large = (read_clip(media / f"grid/s2/{name}.mpg") for name in ("swwp2s", "swwp2s_720x576"))
    score = mobilefacenet.score_clip(small, Expected(target=small))
    assert score.values["face_sim_mobilefacenet"] == pytest.approx(1, abs=1e-6)
    assert score.notes == {"face_frames": "5/5", "target_face_frames": "5/5"}
    assert mobilefacenet.score_clip(large, Expected(target=small)).values["face_sim_mobilefacenet"] > 0.95
    frames = small.frames[spread_frames(len(small.frames), 3)]
    whole = mobilefacenet.embedder.embed(frames)
    each = torch.cat([mobilefacenet.embedder.embed(one[None]) for one in frames.flip(0)]).flip(0)
    torch.testing.assert_close(each, whole, atol=1e-2, rtol=0)  # of values up to about 1
    one = mobilefacenet.score(small.frames[:1], small.frames)
    assert one.values["face_sim_mobilefacenet"] > 0.9


def test_clips_without_a_face_have_reasons(mobilefacenet, media):
    face = read_clip(media / "grid/s3/sbia1a.mpg").frames[:2]
    empty = torch.zeros(2, 3, 90, 120, dtype=torch.uint8)
    assert mobilefacenet.score(empty, face).reason == "no_face"
    assert mobilefacenet.score(face, empty).reason == "target_no_face"
    assert mobilefacenet.score(face, None).reason == "no_target"
    assert mobilefacenet.score(face[:, :, :7, :5], face).reason == "no_face"
    half = mobilefacenet.score(torch.cat([face, torch.zeros_like(face)]), face)
    assert half.notes["face_frames"] == "3/5"
    assert half.values["face_sim_mobilefacenet"] == pytest.approx(1, abs=0.02)


def test_the_loaders_give_one_network_to_all_scorers(checkpoints):
    path = checkpoints / "face/foamliu_MobileFaceNet.onnx"
    assert load_mobilefacenet(checkpoints, path) is load_mobilefacenet(checkpoints, path)


class Painted:
    """Reads the person off the colour of a picture; a black one shows nobody."""

    def embed(self, frames):
        if not frames.any():
            raise Unscorable("no_face")
        return frames.float().mean((2, 3))


def test_pairs_of_the_first_fold_are_decided_by_one_threshold(tmp_path):
    reds = {"A": (250, 20, 20), "B": (20, 250, 20), "C": (0, 0, 0)}
    for name, colour in reds.items():
        for number in (1, 2):
            picture = torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, 24, 24)
            (tmp_path / "lfw" / name).mkdir(parents=True, exist_ok=True)
            write_image(picture, tmp_path / "lfw" / name / f"{name}_000{number}.jpg")
    lines = ["2\t2", "A\t1\t2", "B\t1\t2", "A\t1\tB\t1", "B\t2\tC\t1", *["C\t1\t2"] * 4]
    pairs = tmp_path / "lfw/pairs.txt"
    pairs.write_text("\n".join(lines) + "\n")
    found = lfw_pairs(pairs)
    assert [(first.parent.name, second.name, same) for first, second, same in found] == [
        ("A", "A_0002.jpg", True),
        ("B", "B_0002.jpg", True),
        ("A", "B_0001.jpg", False),
        ("B", "C_0001.jpg", False),
    ]
    assert pair_accuracy(Painted(), found) == 0.75  # the pair with the picture of nobody is wrong
    assert lfw_accuracy(FaceSimilarity(Painted()), tmp_path) == {"accuracy": 0.75}
    pairs.write_text("A\t1\t2\n")
    with pytest.raises(ValueError, match=r"is not the pairs\.txt of Labeled Faces in the Wild"):
        lfw_pairs(pairs)
