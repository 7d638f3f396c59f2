"""Jobs beside callers who never stop asking."""

import json
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from http.client import HTTPConnection

from service_process import PATIENCE, SMALL, Service, until

CALLERS = 8
JOBS = 20
BODY = json.dumps({"prompt": "another one", "parameters": SMALL})
COMPLETED = "SELECT count(*) FROM jobs WHERE status = 'completed' AND prompt LIKE 'job %'"


def test_jobs_complete_beside_requests_without_end(service: Service) -> None:
    """Requests go first, and leave enough: each job takes its steps between them."""
    service.serve()

    with submitting_for_ever(service):
        service.submit_many(JOBS, parameters=SMALL)
        until(lambda: service.rows(COMPLETED) == [(JOBS,)], seconds=300, why=service.tails)


@contextmanager
def submitting_for_ever(service: Service) -> Generator[None]:
    """Submit jobs on several connections, each as soon as the one before is accepted."""
    over, begun = threading.Event(), threading.Barrier(CALLERS + 1)

    def ask() -> None:
        with closing(HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE)) as connection:
            begun.wait()
            while not over.is_set():
                headers = {"Content-Type": "application/json"}
                connection.request("POST", "/api/v1/generate", BODY, headers)
                answer = connection.getresponse()
                answer.read()
                assert answer.status in {201, 503}  # 503: a busy machine

    callers = [threading.Thread(target=ask) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        begun.wait()
        yield
    finally:
        over.set()
        for caller in callers:
            caller.join()
