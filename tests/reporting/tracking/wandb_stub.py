"""A stub of the W&B server: a program that prints its port, then one JSON line per event.

Events: {"operation": name, "variables": {…}} for a GraphQL call, {"history": [row, …]} for logged rows, {"put": path}
for a file. A run that sent rows is there from then on, with its summary; with ``--logged STEP`` it is there from the
start, up to that train/step. With ``--hang PART`` every request whose path or operation contains PART never gets a
response; with ``--fail PART``, it gets an error (``--status``, 500 by default). An empty PART is in every request. With
``--die-after N`` the server ends, cutting all connections, once it has received N rows.
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
RECEIVED: list[dict[str, Any]] = []
SUMMARY: dict[str, Any] = {}
if options.logged is not None:
    SUMMARY.update({"_step": 3, "train/step": options.logged})
BUCKET = {
    "id": "bucket",
    "name": "abc",
    "displayName": "n",
    "project": PROJECT,
    "sweepName": None,
    "historyLineCount": 0,
}


def emit(**event: Any) -> None:
    with PRINTING:
        print(json.dumps(event), flush=True)


def resume_status(name: str) -> dict[str, Any]:
    if not SUMMARY:
        return {"model": None}
    last = RECEIVED[-1] if RECEIVED else {"_step": 3, "_runtime": 1, "train/step": options.logged}
    tails = {
        "historyLineCount": 4 + len(RECEIVED),
        "eventsLineCount": 0,
        "logLineCount": 0,
        "historyTail": json.dumps([json.dumps(last)]),
        "summaryMetrics": json.dumps(SUMMARY),
        "eventsTail": "[]",
        "config": "{}",
        "wandbConfig": json.dumps({"t": 1}),
        "tags": [],
    }
    return {
        "model": {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}, "bucket": BUCKET | {"name": name} | tails}
    }


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
        body = json.loads(self.body() or b"{}")
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
            lines = (body.get("files") or {}).get("wandb-history.jsonl", {}).get("content", [])
            history = [json.loads(line) for line in lines]
            emit(history=history)
            RECEIVED.extend(history)
            for line in (body.get("files") or {}).get("wandb-summary.json", {}).get("content", []):
                SUMMARY.update(json.loads(line))
            if options.die_after is not None and len(RECEIVED) >= options.die_after:
                os._exit(1)
            self.answer({"exitcode": None, "limits": {}})
        elif not self.failed(self.path):
            self.answer({})

    def graphql(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        address = f"http://127.0.0.1:{self.server.server_port}/storage/"  # type: ignore[attr-defined]
        artifact = {"id": "artifact", "digest": "d", "state": "PENDING", "aliases": [], "artifactSequence": {"id": "s"}}
        manifest = {"id": "manifest", "file": {"uploadUrl": address + "manifest", "uploadHeaders": []}}
        run = variables.get("name") or BUCKET["name"]
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
            for spec in (variables.get("input") or {}).get("artifactFiles") or []
        ]
        return {
            "Viewer": {"viewer": {"id": "u", "username": "u", "entity": "e", "flags": "{}", "teams": {"edges": []}}},
            "ServerFeaturesQuery": {"serverInfo": {"features": []}},
            "ArtifactType": {"project": {"artifact": None}},
            "RunResumeStatus": resume_status(variables.get("name", "")),
            "UpsertBucket": {"upsertBucket": {"bucket": BUCKET | {"name": run}, "inserted": not SUMMARY}},
            "CreateRunFiles": {"createRunFiles": {"runID": "bucket", "uploadHeaders": [], "files": files}},
            "CreateArtifact": {"createArtifact": {"artifact": artifact}},
            "CreateArtifactManifest": {"createArtifactManifest": {"artifactManifest": manifest}},
            "UpdateArtifactManifest": {"updateArtifactManifest": {"artifactManifest": manifest}},
            "CreateArtifactFiles": {"createArtifactFiles": {"files": {"edges": specs}}},
            "CommitArtifact": {"commitArtifact": {"artifact": artifact}},
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
