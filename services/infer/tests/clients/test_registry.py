"""`ollama pull` and `ollama push` by the Python client, with a small registry on this machine.

The registry breaks connections, asks for tokens, and lies, as it is told."""

import hashlib
import json
import re
import threading
import unittest
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ollama import ResponseError

from fixture import FILE, MESSAGES, OPTIONS, client, prepare

setUpModule = prepare

LIST = "application/vnd.docker.distribution.manifest.v2+json"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry(ThreadingHTTPServer):
    def __init__(self):
        self.blobs, self.manifests = {}, {}
        self.files = {}
        # Bytes after which a blob's connection is cut, one for each time.
        self.cuts = []
        self.ranges, self.token, self.asked = [], None, []
        super().__init__(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """Those who leave in the middle are what is tested."""

    def put(self, kind: str, data: bytes) -> dict:
        self.blobs[digest(data)] = data
        kind = f"application/vnd.ollama.image.{kind}"
        return {"mediaType": kind, "digest": digest(data), "size": len(data)}

    def model(self, name: str, *layers: dict) -> None:
        config = self.put("config", b"{}")
        self.manifests[name] = json.dumps({
            "schemaVersion": 2, "mediaType": LIST, "config": config, "layers": layers,
        }).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refused(self) -> bool:
        server = self.server
        if server.token is None or self.headers.get("authorization") == f"Bearer {server.token}":
            return False
        realm = f"http://{server.host}/token"
        challenge = f'Bearer realm="{realm}",service="test",scope="repository:me/tiny:pull,push"'
        self.answer(401, www_authenticate=challenge)
        return True

    def bytes_of(self, data: bytes, **headers: str) -> None:
        server = self.server
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        begin = int(wanted[1]) if wanted else 0
        server.ranges.append(begin)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("content-range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data) - begin))
        self.end_headers()
        rest = data[begin:]
        if server.cuts and len(rest) > server.cuts[0]:
            self.wfile.write(rest[:server.cuts.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(rest)

    def do_GET(self):
        server, path = self.server, self.path
        if path.startswith("/token"):
            server.asked.append((path, self.headers.get("authorization")))
            self.answer(200, json.dumps({"token": server.token}).encode())
        elif path in server.files:
            self.bytes_of(server.files[path], etag='"1"')
        elif path.startswith("/moved/"):
            self.answer(302, location=path.removeprefix("/moved"))
        elif self.refused():
            pass
        elif found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            manifest = server.manifests.get(f"{found[1]}:{found[2]}")
            self.answer(200 if manifest else 404, manifest or b"")
        elif found := re.fullmatch(r"/v2/.+/blobs/(sha256:.+)", path):
            data = server.blobs.get(found[1])
            self.answer(404) if data is None else self.bytes_of(data)
        else:
            self.answer(404)

    def do_HEAD(self):
        if self.refused():
            return
        known = self.path.rsplit("/", 1)[1] in self.server.blobs
        self.answer(200 if known else 404)

    def read(self) -> bytes:
        return self.rfile.read(int(self.headers["content-length"]))

    def do_POST(self):
        self.read()
        if not self.refused():
            self.answer(202, location=f"/upload/{uuid.uuid4()}?state=1")

    def do_PUT(self):
        body = self.read()
        if self.refused():
            return
        if found := re.fullmatch(r"/upload/.+&digest=(sha256:.+)", self.path):
            if digest(body) != found[1]:
                return self.answer(400)
            self.server.blobs[found[1]] = body
            self.answer(201)
        elif found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", self.path):
            self.server.manifests[f"{found[1]}:{found[2]}"] = body
            self.answer(201)
        else:
            self.answer(404)


class Pulls(unittest.TestCase):
    def setUp(self):
        self.registry = Registry()
        self.addCleanup(self.registry.server_close)
        self.addCleanup(self.registry.shutdown)
        with open(FILE, "rb") as file:
            # No other test has the same blob: something of the file's own is behind it.
            self.data = file.read() + uuid.uuid4().bytes
        self.name = f"{self.registry.host}/me/tiny"
        self.made = []
        self.addCleanup(lambda: [client.delete(name) for name in self.made])

    def pull(self, name: str = "") -> list:
        name = name or self.name
        lines = list(client.pull(name, insecure=True, stream=True))
        self.made.append(name if "://" not in name else name.rsplit("/", 1)[1].split(".")[0])
        return lines

    def publish(self) -> dict:
        layer = self.registry.put("model", self.data)
        system = self.registry.put("system", b"be kind")
        self.registry.model("me/tiny:latest", layer, system)
        return layer

    def refused(self, act) -> ResponseError:
        with self.assertRaises(ResponseError) as raised:
            act()
        return raised.exception

    def test_a_model_comes_with_progress_and_answers(self):
        layer = self.publish()
        lines = self.pull()
        self.assertEqual(lines[0].status, "pulling manifest")
        self.assertEqual(lines[-1].status, "success")
        mine = [line for line in lines if line.digest == layer["digest"]]
        self.assertEqual(mine[-1].total, len(self.data))
        self.assertTrue(mine[0].status.startswith("pulling "))
        self.assertEqual(client.chat(self.name, MESSAGES, options=OPTIONS).eval_count, 12)
        self.assertIn("be kind", client.show(self.name).modelfile)
        # What is here is not brought again.
        self.registry.ranges.clear()
        self.assertEqual(self.pull()[-1].status, "success")
        self.made.pop()
        self.assertEqual(self.registry.ranges, [])

    def test_a_connection_that_breaks_goes_on_where_it_broke(self):
        self.publish()
        self.registry.cuts = [len(self.data) // 3, len(self.data) // 3]
        self.assertEqual(self.pull()[-1].status, "success")
        begins = [begin for begin in self.registry.ranges if begin > 0]
        self.assertEqual(len(begins), 2, self.registry.ranges)
        self.assertLess(begins[0], begins[1])

    def test_what_is_not_what_it_says_is_not_kept(self):
        layer = self.publish()
        self.registry.blobs[layer["digest"]] = bytes(len(self.data))
        error = self.refused(self.pull)
        self.assertIn("digest mismatch", error.error)
        self.refused(lambda: client.show(self.name))
        # The right one comes afterwards.
        self.registry.blobs[layer["digest"]] = self.data
        self.assertEqual(self.pull()[-1].status, "success")

    def test_what_does_not_fit_on_the_disk_is_refused(self):
        layer = self.publish()
        huge = {**layer, "digest": f"sha256:{'0' * 64}", "size": 1 << 60}
        self.registry.model("me/tiny:latest", huge)

        class Endless:
            def __len__(self):
                return 1 << 60

            def __getitem__(self, place):
                return b""

        self.registry.blobs[huge["digest"]] = Endless()
        error = self.refused(self.pull)
        self.assertIn("the disk has no room", error.error)

    def test_a_missing_model_and_wrong_names_are_told(self):
        error = self.refused(self.pull)
        self.assertIn("file does not exist", error.error)
        error = self.refused(lambda: client.pull(self.name, insecure=True))
        self.assertIn("file does not exist", error.error)
        error = self.refused(lambda: client.pull("http://127.0.0.1:1/me/tiny"))
        self.assertEqual(error.status_code, 400)
        self.assertIn("insecure", error.error)
        error = self.refused(lambda: client.pull("not a name"))
        self.assertEqual(error.status_code, 400)
        error = self.refused(lambda: client.pull("127.0.0.1:1/me/tiny", insecure=True))
        self.assertIn("cannot connect", error.error)

    def test_a_registry_may_want_a_token(self):
        self.publish()
        self.registry.token = uuid.uuid4().hex
        self.assertEqual(self.pull()[-1].status, "success")
        path, _ = self.registry.asked[0]
        self.assertIn("service=test", path)
        self.assertIn("scope=repository:me/tiny:pull", path)

    def test_a_plain_file_becomes_a_model(self):
        host = f"http://{self.registry.host}"
        self.registry.files["/x/plain.gguf"] = self.data
        self.registry.cuts = [len(self.data) // 2]
        lines = self.pull(f"{host}/moved/x/plain.gguf")
        self.assertEqual(lines[-1].status, "success")
        self.assertGreater(max(self.registry.ranges), 0)
        self.assertEqual(client.generate("plain", "hello", options=OPTIONS).eval_count, 12)
        error = self.refused(
            lambda: list(client.pull(
                f"{host}/x/plain.gguf#sha256:{'1' * 64}", insecure=True, stream=True)))
        self.assertIn("digest mismatch", error.error)

    def test_a_model_goes_to_a_registry_and_comes_back(self):
        self.registry.token = uuid.uuid4().hex
        client.copy("clients/tiny", self.name)
        lines = list(client.push(self.name, insecure=True, stream=True))
        self.assertEqual(lines[-1].status, "success")
        manifest = json.loads(self.registry.manifests["me/tiny:latest"])
        for layer in [*manifest["layers"], manifest["config"]]:
            self.assertEqual(len(self.registry.blobs[layer["digest"]]), layer["size"])
        client.delete(self.name)
        self.assertEqual(self.pull()[-1].status, "success")
        error = self.refused(lambda: list(client.push("nobody/x", insecure=True, stream=True)))
        self.assertIn("not found", error.error)


if __name__ == "__main__":
    unittest.main()
