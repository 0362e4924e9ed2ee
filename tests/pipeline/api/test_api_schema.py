"""Schemathesis: requests made up from the API's own description, right and wrong; no answer may contradict it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from pipeline.api_app import create_app
from pipeline.api_guard import Access
from pipeline.api_service import Service

EXAMPLES = 25  # requests made up for each route
UPLOADS = ("POST /verify", "POST /embed", "POST /upscale", "POST /identify", "POST /people")
ROUTES = (*UPLOADS, "GET /", "GET /healthz", "GET /people", "DELETE /people/{name}")
TOKEN = "correct-horse-battery"


@pytest.fixture
def api(service: Callable[..., Service], photo: Callable[..., bytes]) -> Any:
    """The description of an app; where it asks for a photo, schemathesis sends one that shows a face."""
    squares = [photo((person, 0, side), height=side + 32) for person, side in ((0, 90), (1, 20), (2, 40))]
    schemathesis.openapi.media_type("image/png", st.sampled_from(squares))
    access = Access(loopback=True, token=TOKEN, hosts=("testserver",))
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(service(), access))


@pytest.mark.parametrize(
    ("route", "mode"),
    [
        *((route, GenerationMode.POSITIVE) for route in ROUTES),
        *((route, GenerationMode.NEGATIVE) for route in (*UPLOADS, "DELETE /people/{name}")),
    ],
)
def test_answers_are_as_described(api: Any, route: str, mode: GenerationMode) -> None:
    method, path = route.split()
    operation = api[path][method]
    # Some text is no name, which no pattern can say: control characters, for one.
    excluded = [positive_data_acceptance] if path == "/people" else []

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, excluded_checks=excluded)

    ask()


def test_every_route_has_an_example_and_says_what_it_refuses(make: Callable[..., Any]) -> None:
    described = make().get("/openapi.json").json()
    routes = {f"{way.upper()} {path}": one for path, ways in described["paths"].items() for way, one in ways.items()}
    assert set(routes) == set(ROUTES)
    for name, route in routes.items():
        good = next(code for code in route["responses"] if code.startswith("2"))
        content = route["responses"][good]["content"]
        assert "image/png" in content or content["application/json"]["example"], name
        assert route["description"], name
        if "requestBody" in route:
            assert {"413", "415", "422", "429"} <= set(route["responses"]), name
            form = route["requestBody"]["content"]["multipart/form-data"]
            files = [key for key, one in form["schema"]["properties"].items() if "binary" in str(one)]
            assert sorted(files) == sorted(form["encoding"]), name


def test_the_token_is_described_where_there_is_one(make: Callable[..., Any]) -> None:
    for token in (TOKEN, None):
        described = make(Access(loopback=True, token=token)).get("/openapi.json").json()
        secured = [path for path, ways in described["paths"].items() for one in ways.values() if "security" in one]
        assert secured == (["/people", "/people", "/people/{name}"] if token else [])
        assert ("securitySchemes" in described["components"]) == (token is not None)
