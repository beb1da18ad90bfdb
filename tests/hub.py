"A loopback server that stands in for the Hub: repositories in memory, as the Hub's client reads and writes them."

import base64
import hashlib
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "c" * 40
NOWHERE = "http://127.0.0.1:9"  # nobody answers there


class Hub:
    "Repositories, by kind and name such as `models/user/name`: files by path. And what was asked for."

    def __init__(self):
        self.repos, self.asked, self.private, self.broken = {}, set(), {}, False

    def add_folder(self, repo, folder):
        self.repos[repo] = {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()
        }


def find_repo(path):
    "The repository that an address speaks of, and the rest of the address."
    kind = "datasets" if path.startswith(("/datasets/", "/api/datasets/")) else "models"
    parts = path.removeprefix("/api").strip("/").removeprefix(f"{kind}/").split("/")
    return f"{kind}/{'/'.join(parts[:2])}", "/".join(parts[2:])


def make_handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def reply(self, status, body=b"", **headers):
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": len(body), **headers}.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self):
            repo, rest = find_repo(self.path.partition("?")[0])
            files, what = hub.repos.get(repo), rest.split("/")[0]
            if files is None:
                self.reply(404, dict(error="Repository not found"), X_Error_Code="RepoNotFound", Content_Type="application/json")
            elif what in ("", "revision"):
                self.reply(
                    200,
                    dict(
                        id=repo.partition("/")[2],
                        sha=COMMIT,
                        siblings=[dict(rfilename=name, size=len(data)) for name, data in files.items()],
                    ),
                    Content_Type="application/json",
                )
            elif what == "tree":
                found = [dict(type="file", path=name, size=len(data), oid=hashlib.sha1(data).hexdigest()) for name, data in files.items()]
                self.reply(200, found, Content_Type="application/json")
            elif what == "resolve" and (name := rest.split("/", 2)[2]) in files:
                hub.asked.add(name)
                self.reply(200, files[name], ETag=f'"{hashlib.sha1(files[name]).hexdigest()}"', X_Repo_Commit=COMMIT)
            else:
                self.reply(404, X_Error_Code="EntryNotFound")

        do_HEAD = do_GET

        def do_POST(self):
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != "Bearer hf_good":
                return self.reply(401, dict(error="Invalid username or password."))
            if self.path.startswith("/api/repos/create"):
                wanted = json.loads(sent)
                name = "/".join(filter(None, [wanted.get("organization"), wanted["name"]]))
                hub.repos.setdefault(f"models/{name}", {})
                hub.private[name] = wanted.get("private") or wanted.get("visibility") == "private"
                return self.reply(200, dict(url=f"http://{self.headers['Host']}/{name}", name=name), Content_Type="application/json")
            if self.path.startswith("/api/validate-yaml"):
                return self.reply(200, dict(errors=[], warnings=[]), Content_Type="application/json")
            repo, rest = find_repo(self.path.partition("?")[0])
            if hub.broken:
                return self.reply(503 if rest.startswith("commit") else 200, dict(error="out of order", files=[]))
            if rest.startswith("preupload"):
                return self.reply(
                    200,
                    dict(
                        files=[
                            dict(path=file["path"], uploadMode="regular", shouldIgnore=False, oid=None)
                            for file in json.loads(sent)["files"]
                        ]
                    ),
                    Content_Type="application/json",
                )
            rows = [json.loads(line) for line in sent.splitlines()]
            hub.repos[repo].update(
                {row["value"]["path"]: base64.b64decode(row["value"]["content"]) for row in rows if row["key"] == "file"}
            )
            where = f"http://{self.headers['Host']}/{repo.partition('/')[2]}/commit/{COMMIT}"
            self.reply(
                200,
                dict(success=True, commitOid=COMMIT, commitUrl=where, hookOutput="", pullRequestUrl=None),
                Content_Type="application/json",
            )

    return Handler


@contextmanager
def serving(hub):
    "For the length of a with block, the address at which a Hub answers."
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(hub))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def run_with_hub(code, endpoint, *arguments, **environment):
    "Run Python code in a process of its own, since the endpoint is read at import."
    root = Path(__file__).parents[1]
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONPATH": str(root),
        "NO_PROXY": "127.0.0.1",
        "HF_HUB_OFFLINE": "0",
        **environment,
    }
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], env=environment, capture_output=True, text=True)
