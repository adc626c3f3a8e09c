"""Requests drawn from `/openapi.json`, fitting and not: no 5xx, and every reply as the document says (Schemathesis)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import requests
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation

from lnmt.serving.deadline import HEADER
from tests.faults.kit import Outcome
from tests.service_kit import NAME, Instance, make_service_project
from tests.tiny_bundle import tiny_bundle

AT_ONCE = 20  # cases of one operation before the next one's turn
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)
REFUSED = ["400", "404", "409", "413", "415", "422", "504"]  # what the document forbids gets one of these

Operation = APIOperation[Any, Any, Any, Any]
Case = schemathesis.Case[Any]


class Fuzz:
    """A service, its document (which Schemathesis leaves out of it), and what became of the requests."""

    def __init__(self, url: str) -> None:
        config = schemathesis.Config.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": REFUSED}}})
        self.schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
        self.checks: list[Any] = list(schemathesis.checks.CHECKS.get_by_names(list(CHECKS)))
        self.session = requests.Session()
        self.session.trust_env = False
        champion = httpx.get(f"{url}/readyz", trust_env=False).json()["champion"]
        self.live = {"name": NAME, "version": champion}
        self.statuses: Counter[int] = Counter()
        self.answered: set[str] = set()
        self.failures: Counter[str] = Counter()

    @property
    def tried(self) -> int:
        """Requests so far."""
        return self.statuses.total()

    def operations(self) -> list[Operation]:
        """Of the document."""
        found = list(self.schema.get_all_operations())
        assert all(isinstance(one, Ok) for one in found), found
        return [one.ok() for one in found if isinstance(one, Ok)]

    def named(self, operation: Operation) -> dict[str, str] | None:
        """The model and its version, where the path asks for them."""
        return {key: value for key, value in self.live.items() if f"{{{key}}}" in operation.path} or None

    def draw(self, operation: Operation, mode: GenerationMode, count: int, number: int) -> None:
        """At most `count` requests of one operation; every other time its path names what is live."""
        named = self.named(operation) if number % 2 else None

        @seed(number)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(mode, path_parameters=named))
        def ask(case: Case) -> None:
            self.ask(case)

        with suppress(Unsatisfiable):  # where nothing may be sent, nothing wrong can be
            ask()

    def ask(self, case: Case) -> None:
        """One request; what is wrong with its reply is noted."""
        reply = case.call(session=self.session)
        self.statuses[reply.status_code] += 1
        if reply.status_code == 200:
            self.answered.add(case.operation.label)
        # a caller who asks for an answer within a millisecond gets what it asked for
        late = reply.status_code == 504 and HEADER in (case.headers or {})
        checks = [check for check in self.checks if not (late and check.__name__ == "not_a_server_error")]
        try:
            case.validate_response(reply, checks=checks)
        except FailureGroup as group:
            for failure in group.exceptions:
                self.failures[f"{case.operation.label}: {_told(failure)}"] += 1


def run(count: int, directory: Path, seed: int, tick: Callable[[], None]) -> Outcome:
    """At least `count` requests, half of them such as the document forbids."""
    outcome = Outcome("requests drawn from the document", 0)
    project = make_service_project(directory / "project", tiny_bundle(directory / "bundle"))
    _with_postprocessors(project / "params.yaml")
    service = Instance(project)
    try:
        service.await_ready()
        fuzz = Fuzz(service.url)
        _known(fuzz, service.url)
        while fuzz.tried < count:
            seed += 1
            for operation in fuzz.operations():
                for mode in GenerationMode:
                    fuzz.draw(operation, mode, AT_ONCE, seed)
            tick()
        alive = httpx.get(f"{service.url}/readyz", trust_env=False).status_code
    finally:
        service.kill()
    outcome.tried = fuzz.tried
    outcome.figures = {
        "operations": len(fuzz.operations()),
        "operations that answered 200": len(fuzz.answered),
        **{f"status {status}": number for status, number in sorted(fuzz.statuses.items())},
    }
    outcome.failures = [f"{number} × {told}" for told, number in fuzz.failures.most_common()]
    unanswered = {operation.label for operation in fuzz.operations()} - fuzz.answered
    outcome.failures += [f"never answered with 200: {label}" for label in sorted(unanswered - {UNLOAD})]
    if alive != 200:
        outcome.failures.append(f"afterwards /readyz says {alive}")
    return outcome


UNLOAD = "POST /models/{name}/unload"  # of the service's own model: it stays, and there is no other


def _with_postprocessors(path: Path) -> None:
    """The parameters with steps that withhold some answers, and tell less of others."""
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["serve"]["postprocessors"] = [{"name": "abstain", "below": 0.4}, {"name": "top_scores", "k": 2}]
    path.write_text(yaml.safe_dump(params), encoding="utf-8")


def _known(fuzz: Fuzz, url: str) -> None:
    """Requests that must be answered, and that chance hardly draws."""
    one = httpx.post(f"{url}/predict", json={"text": "a good film"}, trust_env=False).json()
    tensor = {"name": "text", "datatype": "BYTES", "shape": [2, 1], "data": [["a good film"], "poor"]}
    tensors: list[Any] = [
        {"inputs": [tensor | {"data": [["a good film"], ["poor"]]}]},
        {"id": "x", "inputs": [tensor | {"shape": [1], "data": ["poor"]}], "outputs": [{"name": "scores"}]},
    ]
    bodies: dict[str, list[Any]] = {
        "POST /predict": [{"text": "a good film", "user": "anna"}, {"text": ["a good film", "poor"]}],
        "POST /feedback": [{"prediction_id": one["prediction_id"], "label": "positive"}],
        "POST /v2/models/{name}/infer": tensors,
        "POST /v2/models/{name}/versions/{version}/infer": tensors,
    }
    for operation in fuzz.operations():
        for body in bodies.get(operation.label, []):
            fuzz.ask(operation.Case(path_parameters=fuzz.named(operation), body=body, media_type="application/json"))


def _told(failure: BaseException) -> str:
    """A failure in one line."""
    told = f"{failure.title}: {failure.message}" if isinstance(failure, Failure) else repr(failure)
    return " ".join(told.split())[:200]
