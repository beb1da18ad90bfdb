"Fetching one category from the Hub: a loopback server stands in for it and counts what is asked for."
import hashlib
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from defect_lora.cables import write_cables

REPO, COMMIT = "DefectSpectrum/Defect_Spectrum", "c" * 40
CODE = """
import sys
from defect_lora.dataset import DefectSpectrumDataset, download_category
from defect_lora.images import InputError
try:
    root = download_category(sys.argv[1], cache_dir=sys.argv[2])
except InputError as error:
    sys.exit(str(error))
dataset = DefectSpectrumDataset(root, sys.argv[1], masks=True, size=64)
print(dataset.category, len(dataset), len(dataset.classes), int(dataset[0]["mask"].sum()) > 0)
"""


def make_handler(folder, asked):
    "A handler that serves a folder as a data set's repository, as the Hub's client expects it."
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def reply(self, status, body=b"", **headers):
            self.send_response(status)
            for name, value in {"Content-Length": len(body), **headers}.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self):
            path = self.path.partition("?")[0]
            file = path.removeprefix(f"/datasets/{REPO}/resolve/{COMMIT}/")
            if path.startswith(f"/api/datasets/{REPO}/revision/"):
                body = dict(id=REPO, sha=COMMIT, siblings=[dict(rfilename=name) for name in files])
                self.reply(200, json.dumps(body).encode(), Content_Type="application/json")
            elif path.startswith(f"/api/datasets/{REPO}/tree/"):
                body = [dict(type="file", path=name, size=(folder / name).stat().st_size,
                             oid=hashlib.sha1((folder / name).read_bytes()).hexdigest()) for name in files]
                self.reply(200, json.dumps(body).encode(), Content_Type="application/json")
            elif file in files:
                asked.add(file)
                data = (folder / file).read_bytes()
                self.reply(200, data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', X_Repo_Commit=COMMIT)
            else:
                self.reply(404)

        do_HEAD = do_GET

    return Handler


@pytest.fixture
def hub(tmp_path):
    "Address of a Hub with two categories, and the set of files that were asked for."
    write_cables(tmp_path / "repo", per_class=1, size=64)
    source = tmp_path / "repo" / "DS-MVTec" / "cable" / "image" / "good" / "000.png"
    other = tmp_path / "repo" / "DS-MVTec" / "screw" / "image" / "good" / "000.png"
    other.parent.mkdir(parents=True)
    other.write_bytes(source.read_bytes())
    asked = set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(tmp_path / "repo", asked))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def fetch(category, cache, endpoint):
    "Run the download in a process of its own, since the endpoint is read at import."
    root = Path(__file__).parent.parent
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                   "PYTHONPATH": str(root), "NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": "0"}
    return subprocess.run([sys.executable, "-c", CODE, category, str(cache)], env=environment, capture_output=True, text=True)


def test_one_category_is_fetched_and_kept(hub, tmp_path):
    endpoint, asked = hub
    first = fetch("cable", tmp_path / "cache", endpoint)
    assert first.stdout.split() == ["cable", "9", "9", "True"], first.stderr
    assert asked and all(name.startswith("DS-MVTec/cable/") for name in asked)
    nowhere = "http://127.0.0.1:9"  # nobody answers there: the cache has to do
    assert fetch("cable", tmp_path / "cache", nowhere).stdout == first.stdout


def test_an_unknown_category_is_named(hub, tmp_path):
    done = fetch("bolt", tmp_path / "cache", hub[0])
    assert done.returncode == 1 and "no category 'bolt'" in done.stderr


def test_no_network_and_no_cache_is_one_line(tmp_path):
    done = fetch("cable", tmp_path / "cache", "http://127.0.0.1:9")
    assert done.returncode == 1 and "could not be fetched" in done.stderr.splitlines()[-1]
