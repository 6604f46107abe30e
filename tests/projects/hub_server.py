"""A stand-in for the Hugging Face hub on loopback: it takes commits, and refuses whom it does not know."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_known"


class HubServer:
    """The hub.

    Attributes:
        url: for ``HF_ENDPOINT``.
        repositories: of each repository, the contents of its files by name.
        private: the repositories that only their owner sees.
    """

    def __init__(self):
        self.repositories, self.private = {}, set()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = "/".join(self.path.split("?")[0].split("/")[3:5])
                if name not in hub.repositories:
                    return self.answer(404, {"error": "Repository not found"})
                files = hub.repositories[name]
                facts = {"id": name, "sha": "0" * 40, "siblings": [{"rfilename": file} for file in files]}
                return self.answer(200, [] if "/tree/" in self.path else facts)

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    return self.answer(401, {"error": "Invalid username or password."})
                where = self.path.split("?")[0]
                if where == "/api/repos/create":
                    asked = json.loads(body)
                    name = f"{asked.get('organization') or 'ada'}/{asked['name']}"
                    hub.repositories.setdefault(name, {})
                    if asked.get("private") or asked.get("visibility") == "private":
                        hub.private.add(name)
                    return self.answer(200, {"url": f"{hub.url}/{name}", "name": name})
                if where == "/api/validate-yaml":
                    return self.answer(200, {"errors": [], "warnings": []})
                name = "/".join(where.split("/")[3:5])
                if "/preupload/" in where:
                    files = [file["path"] for file in json.loads(body)["files"]]
                    modes = {"uploadMode": "regular", "shouldIgnore": False}
                    return self.answer(200, {"files": [{"path": file, **modes} for file in files]})
                assert "/commit/" in where, where
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        hub.repositories[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                return self.answer(200, {"commitUrl": f"{hub.url}/{name}/commit/{'0' * 40}", "commitOid": "0" * 40})

            def answer(self, status, content):
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()
