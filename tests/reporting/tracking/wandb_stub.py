"""A stub of the W&B server: a program that prints its port, then one JSON line per event.

Events: {"operation": name, "variables": {…}} for a GraphQL call, {"run": id, "offset": line, "history": [row, …]} for
logged rows, {"put": path} for a file. Like the server, it keeps the lines of each run by their number, so lines that
are sent again replace those that were there; and an artifact of the same name and content is the same version. A run
that sent rows is there from then on, with its summary; with ``--logged STEP`` every run is there from the start, up to
that train/step. With ``--hang PART`` every request whose path or operation contains PART never gets a response; with
``--fail PART``, it gets an error (``--status``, 500 by default). An empty PART is in every request. With ``--die-after
N`` the server ends, cutting all connections, once it has N rows.
"""

import argparse
import contextlib
import gzip
import json
import os
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

parser = argparse.ArgumentParser()
parser.add_argument("--logged", type=int)
parser.add_argument("--hang")
parser.add_argument("--fail")
parser.add_argument("--status", type=int, default=500)
parser.add_argument("--die-after", type=int)
options = parser.parse_args()
PROJECT = {"name": "p", "entity": {"name": "e"}}
PRINTING = threading.Lock()
ARTIFACTS: dict[str, dict[str, Any]] = {}
VIEWS: dict[str, dict[str, Any]] = {}
LAST_PAGE = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
A_PROJECT = {"__typename": "Project", "id": "1", "name": "plays", "entityName": "me", "isBenchmark": False}
A_PROJECT |= {"createdAt": "2026-01-01T00:00:00", "user": None}


class Run:
    """What the server has of a run."""

    def __init__(self) -> None:
        self.lines: dict[int, dict[str, Any]] = {}
        self.summary: dict[str, Any] = {}
        if options.logged is not None:
            last = {"_step": 3, "_runtime": 1, "train/step": options.logged}
            self.lines = {0: {"_step": 0}, 1: {"_step": 1}, 2: {"_step": 2}, 3: last}
            self.summary = dict(last)

    def bucket(self, name: str) -> dict[str, Any]:
        known = {"id": f"id-{name}", "name": name, "displayName": "n", "project": PROJECT, "sweepName": None}
        return known | {"historyLineCount": len(self.lines)}

    def tails(self) -> dict[str, Any]:
        """What a resumed run is told."""
        last = self.lines[max(self.lines)] if self.lines else {}
        return {
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps([json.dumps(last)]),
            "summaryMetrics": json.dumps(self.summary),
            "eventsTail": "[]",
            "config": "{}",
            "wandbConfig": json.dumps({"t": 1}),
            "tags": [],
        }


RUNS: dict[str, Run] = {}


def run_of(name: str) -> Run:
    return RUNS.setdefault(name, Run())


def rows_received() -> int:
    return sum(len(run.lines) for run in RUNS.values())


def emit(**event: Any) -> None:
    with PRINTING:
        print(json.dumps(event), flush=True)


def resume_status(name: str) -> dict[str, Any]:
    run = run_of(name)
    if not run.summary:
        return {"model": None}
    entity = {"id": "e", "name": "e"}
    return {"model": {"id": "p", "name": "p", "entity": entity, "bucket": run.bucket(name) | run.tails()}}


def upserted(given: dict[str, Any]) -> dict[str, Any]:
    """A workspace or a report, by its id if it has one."""
    name = given.get("id") or f"view-{len(VIEWS)}"
    known = {key: given.get(key) for key in ("name", "displayName", "type", "spec", "description")}
    project = {"name": given.get("projectName"), "entityName": given.get("entityName")}
    VIEWS[name] = known | {"id": name, "project": project, "createdAt": "2026-01-01T00:00:00", "updatedAt": None}
    return {"upsertView": {"view": VIEWS[name], "inserted": not given.get("id")}}


def created(given: dict[str, Any]) -> dict[str, Any]:
    """An artifact: the version that has this name and content, if there is one."""
    key = f"{given.get('artifactCollectionName')}/{given.get('digest')}"
    known = {"id": key, "digest": given.get("digest"), "state": "PENDING", "aliases": []}
    return ARTIFACTS.setdefault(key, known | {"artifactSequence": {"id": str(given.get("artifactCollectionName"))}})


class Stub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self) -> bytes:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

    def answer(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def failed(self, name: str) -> bool:
        """Hang or answer with an error, if the options say so for a path or operation."""
        if options.hang is not None and options.hang in name:
            emit(hanging=name)
            time.sleep(3600)
        if options.fail is None or options.fail not in name:
            return False
        emit(failed=name)
        self.answer({"errors": [{"message": "internal error"}]}, status=options.status)
        return True

    def do_GET(self) -> None:
        if not self.failed(self.path):
            self.answer({})

    def do_PUT(self) -> None:
        self.body()
        if not self.failed(self.path):
            emit(put=self.path)
            self.answer({})

    def do_POST(self) -> None:
        raw = self.body()
        is_json = self.path.endswith(("/graphql", "/file_stream"))  # W&B also reports its own errors
        body = json.loads(raw or b"{}") if is_json else {}
        if self.path.endswith("/graphql"):
            operation = re.search(r"(?:query|mutation)\s+(\w+)", body["query"])
            name = operation[1] if operation else ""
            if self.failed(name):
                return
            emit(operation=name, variables=body.get("variables"))
            self.answer({"data": self.graphql(name, body.get("variables") or {})})
        elif self.path.endswith("/file_stream"):
            if self.failed("file_stream"):
                return
            name = self.path.split("/")[-2]
            run, files = run_of(name), body.get("files") or {}
            chunk = files.get("wandb-history.jsonl", {})
            history = [json.loads(line) for line in chunk.get("content", [])]
            emit(run=name, offset=chunk.get("offset", 0), history=history)
            run.lines |= dict(enumerate(history, start=chunk.get("offset", 0)))
            for line in files.get("wandb-summary.json", {}).get("content", []):
                run.summary.update(json.loads(line))
            if options.die_after is not None and rows_received() >= options.die_after:
                os._exit(1)
            self.answer({"exitcode": None, "limits": {}})
        elif not self.failed(self.path):
            self.answer({})

    def graphql(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        address = f"http://127.0.0.1:{self.server.server_port}/storage/"  # type: ignore[attr-defined]
        given = variables.get("input") or {}
        artifact = created(given) if name == "CreateArtifact" else {"id": variables.get("artifactID") or "artifact"}
        if name == "CommitArtifact" and artifact["id"] in ARTIFACTS:
            artifact = ARTIFACTS[artifact["id"]]
            artifact["state"] = "COMMITTED"
        manifest = {"id": "manifest", "file": {"uploadUrl": address + "manifest", "uploadHeaders": []}}
        run = variables.get("name") or "abc"
        bucket = run_of(run).bucket(run)
        asked = run_of(variables.get("run") or "abc")
        attributes = {"historyLineCount": len(asked.lines), "summaryMetrics": json.dumps(asked.summary)}
        files = [{"name": file, "uploadUrl": address + file} for file in variables.get("files") or []]
        specs = [
            {
                "node": spec
                | {
                    "uploadUrl": address + spec["name"],
                    "uploadHeaders": [],
                    "storagePath": spec["name"],
                    "artifact": artifact,
                }
            }
            for spec in given.get("artifactFiles") or []
        ]
        return {
            "Viewer": {"viewer": {"id": "u", "username": "u", "entity": "e", "flags": "{}", "teams": {"edges": []}}},
            "ServerFeaturesQuery": {"serverInfo": {"features": []}},
            "ArtifactType": {"project": {"artifact": None}},
            "RunResumeStatus": resume_status(variables.get("name", "")),
            "UpsertBucket": {"upsertBucket": {"bucket": bucket, "inserted": not run_of(run).summary}},
            "Views": {"project": {"allViews": {"edges": [{"node": view} for view in VIEWS.values()]}}},
            "UpsertView2": upserted(variables) if name == "UpsertView2" else {},
            "upsertView": upserted(variables) if name == "upsertView" else {},
            "ProjectInternalId": {"project": {"internalId": "UHJvamVjdDox"}},
            "GetProjects": {"models": {"pageInfo": LAST_PAGE, "edges": [{"node": A_PROJECT}]}},
            "RunRows": {"project": {"run": attributes}},
            "CreateRunFiles": {"createRunFiles": {"runID": "bucket", "uploadHeaders": [], "files": files}},
            "CreateArtifact": {"createArtifact": {"artifact": artifact}},
            "CreateArtifactManifest": {"createArtifactManifest": {"artifactManifest": manifest}},
            "UpdateArtifactManifest": {"updateArtifactManifest": {"artifactManifest": manifest}},
            "CreateArtifactFiles": {"createArtifactFiles": {"files": {"edges": specs}}},
            "CommitArtifact": {"commitArtifact": {"artifact": artifact}},
            "UseArtifact": {"useArtifact": {"artifact": {"id": given.get("artifactID")}}},
            "NotifyScriptableRunAlert": {"notifyScriptableRunAlert": {"success": True}},
        }.get(name, {})

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # some tests make the client disconnect
            super().handle()

    def log_message(self, *args: Any) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
server.daemon_threads = True
print(server.server_port, flush=True)
sys.exit(server.serve_forever())
