"""Every route of the API on made-up faces: what it answers, by name."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from common.errors import UserError
from pipeline import api_answers, api_people
from pipeline.api_examples import example
from pipeline.distances import LARGEST_DISTANCE, distance, similarity
from pipeline.gallery import Gallery
from pipeline.gallery_sqlite import SqliteGallery

PhotoFile = Callable[..., bytes]
Make = Callable[..., TestClient]


def verified(client: TestClient, first: bytes, second: bytes, **fields: str) -> dict[str, Any]:
    response = client.post("/verify", files={"image1": first, "image2": second}, data=fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_importing_it_never_imports_torch() -> None:
    code = "import sys, pipeline.api; print({'torch', 'sklearn', 'scipy', 'psycopg', 'timm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_distances() -> None:
    a, b, c = np.eye(3, 512, dtype=np.float32)
    assert [distance(a, other, "cosine") for other in (a, b, -a)] == [0, 1, 2]
    assert [distance(a, other, "euclidean") for other in (a, b, -a)] == pytest.approx([0, math.sqrt(2), 2])
    for score in (-0.7, 0.1, 0.349, 0.351, 0.9):
        other = (score * a + math.sqrt(1 - score**2) * c).astype(np.float32)
        assert similarity(a, other) == pytest.approx(score, abs=1e-6)
        assert distance(a, other, "euclidean") == pytest.approx(math.sqrt(2 - 2 * score), abs=1e-6)
        for metric, most in LARGEST_DISTANCE.items():
            assert (distance(a, other, metric) <= most) == (score > 0.35)
    assert LARGEST_DISTANCE == {"cosine": 0.65, "euclidean": 1.140}


def test_welcome_and_health(client: TestClient) -> None:
    welcome = client.get("/").json()
    assert welcome["docs"] == "/docs"
    assert "POST /verify" in welcome["routes"]
    health = client.get("/healthz").json()
    assert (health["status"], health["waiting"], health["upscale"], health["people"]) == ("ok", 0, True, True)
    assert health["models"]["weights_sha256"] == "e" * 64
    assert health["models"]["calibration"] is None


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_verify(client: TestClient, photo: PhotoFile, metric: str) -> None:
    same = verified(client, photo((0, 0, 100)), photo((0, 1, 20)), metric=metric)
    other = verified(client, photo((0, 0, 100)), photo((3, 0, 100)), metric=metric)
    assert (same["match"], other["match"]) == (True, False)
    assert same["threshold"] == {"cosine": 0.65, "euclidean": 1.14}[metric]
    for answer in (same, other):
        assert answer["match"] == (answer["distance"] <= answer["threshold"])
        s = answer["similarity"]
        expected = 1 - s if metric == "cosine" else math.sqrt(2 - 2 * s)
        assert answer["distance"] == pytest.approx(expected, abs=1e-6)
    assert (same["face1"]["resolution"], same["face1"]["by_dsr"], same["face1"]["box"]) == (
        100,
        False,
        [16, 16, 115, 115],
    )
    assert (same["face2"]["resolution"], same["face2"]["by_dsr"]) == (20, True)
    assert same["verdict"]["answer"] == "same"
    assert (same["verdict"]["resolution"], same["verdict"]["calibrated"]) == (20, False)
    assert other["verdict"]["answer"] == "different"


def test_verify_by_default_takes_the_cosine(client: TestClient, photo: PhotoFile) -> None:
    answer = verified(client, photo((0, 0, 100)), photo((0, 1, 100)))
    assert (answer["metric"], answer["threshold"]) == ("cosine", 0.65)


def test_the_largest_face_and_aligned_ones(client: TestClient, photo: PhotoFile, small_face: PhotoFile) -> None:
    two = photo((1, 0, 40), (0, 0, 90))
    refused = client.post("/verify", files={"image1": two, "image2": photo((0, 1, 90))})
    assert refused.status_code == 422
    assert refused.json()["error"] == "several_faces"
    assert "image1 shows 2 faces" in refused.json()["message"]
    answer = verified(client, two, photo((0, 1, 90)), largest="true")
    assert (answer["match"], answer["face1"]["number"]) == (True, 2)
    answer = verified(client, small_face(0, 0), small_face(0, 1), aligned="true")
    assert (answer["match"], answer["face1"]["box"], answer["face1"]["resolution"]) == (True, None, 16)


def test_embed(client: TestClient, photo: PhotoFile) -> None:
    answer = client.post("/embed", files={"image": photo((0, 0, 20), (1, 0, 90))}).json()
    vectors = np.array([one["embedding"] for one in answer["faces"]])
    assert vectors.shape == (2, 512)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    both = verified(client, photo((0, 0, 20)), photo((1, 0, 90)))
    assert both["similarity"] == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-4)


@pytest.mark.parametrize(("size", "seen"), [(None, "20"), ("8", "8"), ("64", "64")])
def test_upscale(client: TestClient, photo: PhotoFile, size: str | None, seen: str) -> None:
    fields = {} if size is None else {"size": size}
    response = client.post("/upscale", files={"image": photo((0, 0, 20))}, data=fields)
    assert response.status_code == 200, response.text
    assert (response.headers["content-type"], response.headers["dsr-input"]) == ("image/png", seen)
    assert response.headers["face-resolution"] == "20"
    with Image.open(io.BytesIO(response.content)) as picture:
        assert (picture.format, picture.size, picture.mode) == ("PNG", (112, 112), "RGB")
        assert np.asarray(picture).std() > 10


def test_upscale_of_an_aligned_face(client: TestClient, small_face: PhotoFile) -> None:
    response = client.post("/upscale", files={"image": small_face(0, 0)}, data={"aligned": "true"})
    assert (response.status_code, response.headers["dsr-input"]) == (200, "16")


def test_upscale_without_a_dsr_says_how_to_get_one(make: Make, photo: PhotoFile) -> None:
    response = make(dsr=False).post("/upscale", files={"image": photo((0, 0, 20))})
    assert response.status_code == 503
    assert "python -m pipeline.export --to onnx --what dsr" in response.json()["message"]


def test_a_gallery_that_another_process_makes_is_seen(
    make: Callable[..., TestClient], photo: PhotoFile, tmp_path: Path
) -> None:
    client, other = make(gallery=str(tmp_path / "both.sqlite")), make(gallery=str(tmp_path / "both.sqlite"))
    assert other.post("/people", data={"name": "Ann"}, files={"image": photo((0, 0, 90))}).status_code == 201
    assert client.get("/people").json() == {"people": [{"name": "Ann", "embeddings": 1}]}
    assert client.post("/identify", files={"image": photo((0, 1, 90))}).json()["faces"][0]["name"] == "Ann"


def test_of_two_deletions_at_once_the_later_finds_nobody(
    client: TestClient, photo: PhotoFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client.post("/people", data={"name": "Ann"}, files={"image": photo((0, 0, 90))})
    kept = api_people.is_kept

    def quicker(gallery: Gallery, name: str) -> bool:
        """Somebody else deletes between the look and our own deletion."""
        there = kept(gallery, name)
        if there:
            gallery.delete(name)
        return there

    monkeypatch.setattr(api_people, "is_kept", quicker)
    answer = client.delete("/people/Ann")
    assert (answer.status_code, answer.json()["error"]) == (404, "unknown_person")
    assert "Ann" not in caplog.text


def test_what_could_not_be_overwritten_is_said(
    client: TestClient, photo: PhotoFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Gallery) -> None:
        raise UserError("no room")

    client.post("/people", data={"name": "Ann"}, files={"image": photo((0, 0, 90))})
    monkeypatch.setattr(SqliteGallery, "keeps_deleted", True)
    monkeypatch.setattr(SqliteGallery, "compact", fail)
    answer = client.delete("/people/Ann")
    assert (answer.status_code, answer.json()["error"]) == (503, "not_overwritten")
    assert answer.json()["message"].startswith("The person is deleted")
    assert client.get("/people").json() == {"people": []}


def test_people_are_enrolled_found_listed_and_deleted(client: TestClient, photo: PhotoFile, tmp_path: Path) -> None:
    gallery = tmp_path / "people.sqlite"
    assert client.post("/identify", files={"image": photo((0, 0, 90))}).json()["error"] == "nobody_enrolled"
    assert not gallery.exists(), "nothing is written before somebody is enrolled"
    kept = client.post(
        "/people",
        data={"name": " Ann/Lee "},
        files=[("image", ("../../etc/passwd", photo((0, 0, 90)))), ("image", ("C:\\x.png", photo((0, 1, 20))))],
    )
    assert kept.status_code == 201, kept.text
    assert kept.json()["name"] == "Ann/Lee"
    assert [face["resolution"] for face in kept.json()["faces"]] == [90, 20]
    assert client.post("/people", data={"name": "Bob"}, files={"image": photo((1, 0, 90))}).status_code == 201
    assert client.get("/people").json() == {
        "people": [{"name": "Ann/Lee", "embeddings": 2}, {"name": "Bob", "embeddings": 1}]
    }
    answer = client.post("/identify", files={"image": photo((0, 3, 80), (5, 0, 60))}, data={"top": "1"}).json()
    assert [(one["name"], one["label"]) for one in answer["faces"]] == [("Ann/Lee", "Ann/Lee"), (None, "unknown")]
    assert len(answer["faces"][0]["candidates"]) == 1
    held = gallery.read_bytes()
    assert b"Ann/Lee" in held
    assert b"passwd" not in held
    assert b"x.png" not in held
    assert client.delete("/people/Ann%2FLee").json() == {"name": "Ann/Lee", "embeddings": 2}
    assert b"Ann/Lee" not in gallery.read_bytes()
    gone = client.delete("/people/Ann%2FLee")
    assert (gone.status_code, gone.json()["error"]) == (404, "unknown_person")
    assert client.delete("/people/Bob").status_code == 200
    assert client.get("/people").json() == {"people": []}
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["people.sqlite"]


def test_an_enrolment_is_whole_or_not_at_all(client: TestClient, photo: PhotoFile) -> None:
    files = [("image", ("1", photo((0, 0, 90)))), ("image", ("2", photo()))]
    refused = client.post("/people", data={"name": "Ann"}, files=files)
    assert (refused.status_code, refused.json()["error"]) == (422, "no_face")
    assert "image 2" in refused.json()["message"]
    assert client.get("/people").json() == {"people": []}


@pytest.mark.parametrize("name", ["", "   ", "a" * 201, "Ann\nLee", "..", ".", "a\u202eb"])
def test_names_that_cannot_be_kept(client: TestClient, photo: PhotoFile, name: str) -> None:
    refused = client.post("/people", data={"name": name}, files={"image": photo((0, 0, 90))})
    assert refused.status_code == 422, refused.text
    assert "name" in refused.json()["message"]


def test_documentation_is_served_from_here(client: TestClient) -> None:
    page = client.get("/docs")
    assert "http" not in page.text.replace("https://localhost", "")
    for file in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js"):
        assert f"/docs/{file}" in page.text
        assert len(client.get(f"/docs/{file}").content) > 50
    assert client.get("/docs/..%2Fcore.py").status_code == 404
    assert client.get("/docs/redoc.standalone.js").status_code == 404


def test_the_page_is_served_where_it_is_built(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pipeline.api_pages.BUILT", tmp_path / "absent")
    missing = make().get("/ui")
    assert missing.status_code == 404
    assert "npm run build" in missing.text
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "index.html").write_text("<!doctype html><title>page</title>")
    (tmp_path / "secret").write_text("secret")
    client = make(ui=tmp_path / "dist")
    assert client.get("/").json()["ui"] == "/ui/"
    page = client.get("/ui")
    assert page.text.startswith("<!doctype html>")
    assert "'wasm-unsafe-eval'" in page.headers["content-security-policy"]
    assert client.get("/ui/..%2Fsecret").status_code == 404
    assert "built with other" not in caplog.text
    (tmp_path / "dist" / "models").mkdir()
    (tmp_path / "dist" / "models" / "models.json").write_text('{"source_sha256": {"dsr": "0"}, "thresholds": null}')
    make(ui=tmp_path / "dist")
    assert "was built with other weights than this server has. Build it again" in caplog.text
    chain = client.app.state.service.recogniser.models[1]  # type: ignore[attr-defined]
    same = {"source_sha256": dict(chain.metadata.source_sha256), "thresholds": {"sizes": []}}
    (tmp_path / "dist" / "models" / "models.json").write_text(json.dumps(same))
    make(ui=tmp_path / "dist")
    assert "was built with other thresholds than this server has" in caplog.text
    with pytest.raises(Exception, match=r"holds no index\.html"):
        make(ui=tmp_path)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("welcome", "WelcomeAnswer"),
        ("healthz", "HealthAnswer"),
        ("verify", "VerifyAnswer"),
        ("embed", "EmbedAnswer"),
        ("identify", "IdentifyAnswer"),
        ("people", "PeopleAnswer"),
        ("enrol", "EnrolAnswer"),
        ("delete", "DeleteAnswer"),
    ],
)
def test_examples_are_answers(name: str, model: str) -> None:
    kept = example(name)
    assert getattr(api_answers, model).model_validate(kept).model_dump(mode="json") == kept


def test_without_the_extra_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['fastapi'] = None; import pipeline.api"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: fastapi is not installed. The API is an extra: poetry install --extras api\n"


def test_a_gallery_that_cannot_be_looked_at_is_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--gallery .* cannot be looked at \(File name too long\): name another file"):
        make(gallery=str(tmp_path / ("x" * 300)))
