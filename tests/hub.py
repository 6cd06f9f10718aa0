"""A small hub on this machine: as much of the Hugging Face hub's protocol as nfrl asks of it."""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_thetokenofthetests"


class Hub:
    """Models by name: their files at each commit, and their branches.

    Attributes:
        asked: Method and path of each request.
        blobs: What lies outside the models, by its path.
        status: What every request is answered with, where that is not 0.
        answers: Headers of a file's answer that replace the right ones.
    """

    def __init__(self):
        self.models, self.private, self.asked = {}, {}, []
        self.blobs = {}
        self.status, self.answers = 0, {}

    def commit(self, repo: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit with these files, and no others, to a branch."""
        model = self.models.setdefault(repo, {})
        said = json.dumps([repo, branch, len(model), sorted(files)])
        sha = hashlib.sha1(said.encode()).hexdigest()
        model[sha] = model[branch] = dict(files)
        model[f"{branch} at"] = sha
        return sha

    def find(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]]:
        model = self.models[repo]
        return model.get(f"{revision} at", revision), model[revision]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_):
        pass

    def answer(self, status: int, body: object = b"", **headers: str) -> None:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Length": str(len(body)), **headers}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.route()

    def do_GET(self):
        self.route()

    def do_POST(self):
        self.route()

    def route(self) -> None:
        hub, path = self.hub, urlsplit(self.path).path
        hub.asked.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if hub.status:
            return self.answer(hub.status, {"error": "as the test wants"})
        if path in hub.blobs:
            return self.answer(200, hub.blobs[path])
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.file(*map(unquote, found.groups()))
        if not path.startswith("/api/") or path == "/api/agent-harnesses":
            return self.answer(404)
        if self.command == "POST" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid credentials"})
        return self.api(path.removeprefix("/api/"), body)

    def api(self, path: str, body: bytes) -> None:
        hub = self.hub
        given = json.loads(body) if body and "/commit/" not in path else {}
        where = f"http://{self.headers['Host']}"
        if path == "validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if path == "repos/create":
            repo = f"{given['organization']}/{given['name']}"
            if given["organization"] == "others":
                return self.answer(403, {"error": "forbidden"}, X_Error_Message="forbidden")
            if repo in hub.models:
                return self.answer(409, {"url": f"{where}/{repo}", "error": "exists"})
            hub.commit(repo, {".gitattributes": b""})
            hub.private[repo] = given.get("visibility") == "private" or bool(given.get("private"))
            return self.answer(200, {"url": f"{where}/{repo}"})
        found = re.fullmatch(r"models/([^/]+/[^/]+)(?:/(\w+)/(.+))?", path)
        assert found, path
        repo, what, revision = found[1], found[2], unquote(found[3] or "main")
        if repo not in hub.models:
            return self.answer(404, {"error": "none"}, X_Error_Code="RepoNotFound")
        if what == "branch":
            hub.commit(repo, hub.find(repo, "main")[1], revision)
            return self.answer(200, {})
        sha, files = hub.find(repo, revision)
        if what == "preupload":
            regular = {"uploadMode": "regular", "shouldIgnore": False}
            return self.answer(
                200, {"files": [{"path": each["path"], **regular} for each in given["files"]]}
            )
        if what == "commit":
            files = dict(files)
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "deletedFile":
                    del files[value["path"]]
            made = hub.commit(repo, files, revision)
            url = f"{where}/{repo}/commit/{made}"
            return self.answer(200, {"commitUrl": url, "commitOid": made, "pullRequestUrl": None})
        listed = [{"rfilename": name} for name in files]
        known = {"id": repo, "sha": sha, "private": hub.private.get(repo, False)}
        return self.answer(200, {**known, "siblings": listed, "tags": []})

    def file(self, repo: str, revision: str, name: str) -> None:
        hub = self.hub
        if repo not in hub.models:
            return self.answer(401, b"", X_Error_Code="RepoNotFound")
        if revision not in hub.models[repo]:
            return self.answer(404, b"", X_Error_Code="RevisionNotFound")
        sha, files = hub.find(repo, revision)
        if name not in files:
            return self.answer(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
        content = files[name]
        if name.endswith(".safetensors") and not hub.answers:
            # As files in Git LFS are: they lie elsewhere, on another host, under their hash.
            digest = hashlib.sha256(content).hexdigest()
            hub.blobs[f"/blobs/{digest}"] = content
            return self.answer(
                302,
                Location=f"http://localhost:{self.server.server_port}/blobs/{digest}",
                X_Linked_ETag=f'"{digest}"',
                X_Linked_Size=str(len(content)),
                X_Repo_Commit=sha,
            )
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        return self.answer(200, content, **{"ETag": etag, "X_Repo_Commit": sha, **self.hub.answers})


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """Serve it; return its address."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
