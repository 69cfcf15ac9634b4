"""A stub of the W&B server: a program that prints its port, then one JSON line per event.

Events: {"operation": name, "variables": {…}} for a GraphQL call, {"history": [row, …]} for logged rows, {"put": path}
for a file. With ``--logged STEP`` the server already has the run, up to that train/step. With ``--hang PART`` every
request whose path or operation contains PART never gets a response.
"""

import argparse
import contextlib
import gzip
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

parser = argparse.ArgumentParser()
parser.add_argument("--logged", type=int)
parser.add_argument("--hang")
options = parser.parse_args()
PROJECT = {"name": "p", "entity": {"name": "e"}}
PRINTING = threading.Lock()
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


def resume_status() -> dict[str, Any]:
    if options.logged is None:
        return {"model": None}
    tails = {
        "historyLineCount": 4,
        "eventsLineCount": 0,
        "logLineCount": 0,
        "historyTail": json.dumps([json.dumps({"_step": 3, "_runtime": 1, "train/step": options.logged})]),
        "summaryMetrics": json.dumps({"_step": 3, "train/step": options.logged}),
        "eventsTail": "[]",
        "config": "{}",
        "wandbConfig": json.dumps({"t": 1}),
        "tags": [],
    }
    return {"model": {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}, "bucket": BUCKET | tails}}


class Stub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self) -> bytes:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

    def answer(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def hang_on(self, name: str) -> None:
        if options.hang and options.hang in name:
            emit(hanging=name)
            time.sleep(3600)

    def do_GET(self) -> None:
        self.answer({})

    def do_PUT(self) -> None:
        self.body()
        emit(put=self.path)
        self.answer({})

    def do_POST(self) -> None:
        body = json.loads(self.body() or b"{}")
        if self.path.endswith("/graphql"):
            operation = re.search(r"(?:query|mutation)\s+(\w+)", body["query"])
            name = operation[1] if operation else ""
            self.hang_on(name)
            emit(operation=name, variables=body.get("variables"))
            self.answer({"data": self.graphql(name, body.get("variables") or {})})
        elif self.path.endswith("/file_stream"):
            self.hang_on("file_stream")
            history = (body.get("files") or {}).get("wandb-history.jsonl", {}).get("content", [])
            emit(history=[json.loads(line) for line in history])
            self.answer({"exitcode": None, "limits": {}})
        else:
            self.answer({})

    def graphql(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        address = f"http://127.0.0.1:{self.server.server_port}/storage/"  # type: ignore[attr-defined]
        artifact = {"id": "artifact", "digest": "d", "state": "PENDING", "aliases": [], "artifactSequence": {"id": "s"}}
        manifest = {"id": "manifest", "file": {"uploadUrl": address + "manifest", "uploadHeaders": []}}
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
            "RunResumeStatus": resume_status(),
            "UpsertBucket": {"upsertBucket": {"bucket": BUCKET, "inserted": options.logged is None}},
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
