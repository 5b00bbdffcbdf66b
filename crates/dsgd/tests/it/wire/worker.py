"""A complete worker of another kind: the line of examples/linear.rs, in plain Python.

The invitation, one line of JSON, comes on standard input. What `grpc_tools.protoc` makes of
proto/dsgd.proto must be found by Python (PYTHONPATH), and grpcio.
"""
import hashlib, hmac, json, struct, sys, threading

import grpc
import dsgd_pb2 as pb, dsgd_pb2_grpc as rpc


NOT_LOOKED_AT = 0  # TLS takes care of it.


def connect(endpoint):
    identity = endpoint["identity"]
    credentials = grpc.ssl_channel_credentials(
        *(identity[part].encode() for part in ("authority", "key", "certificate")))
    name = [("grpc.ssl_target_name_override", "dsgd-server")]
    address = endpoint["address"].removeprefix("https://")
    return rpc.DsgdStub(grpc.secure_channel(address, credentials, name))


def join(server, token, name):
    hello = server.Hello(pb.HelloRequest(protocol=2, program="worker.py", host="python"))
    proof = hmac.digest(bytes.fromhex(token), hello.nonce + name.encode(), hashlib.sha256)
    return server.Join(pb.JoinRequest(nonce=hello.nonce, proof=proof, name=name))


def live(server, session, dead_after_s):
    """Pulses from a thread of their own, until it is set that they end."""
    end = threading.Event()

    def pulses():
        yield pb.Pulse()
        while not end.wait(dead_after_s / 4):
            yield pb.Pulse()

    answers = server.Live(pulses(), metadata=session)
    threading.Thread(target=lambda: list(answers), daemon=True).start()
    return end


def gradient(line, batch):
    """What Linear::gradient computes, and the sum of the batch's losses."""
    slopes, loss = [0.0, 0.0], 0.0
    for x, y in POINTS[batch * 10:batch * 10 + 10]:
        error = line[0] * x + line[1] - y
        loss += error * error
        slopes[0] += 2 * error * x / 10
        slopes[1] += 2 * error / 10
    return slopes, loss


def pushed(lease, slopes, loss):
    stats = pb.Stats(loss=loss, count=10, examples=10)
    yield pb.PushPart(gradient=pb.Gradient(lease=lease, stats=stats))
    values = struct.pack("<2f", *slopes)
    yield pb.PushPart(chunk=pb.Chunk(tensor=0, offset=0, values=values, crc32=NOT_LOOKED_AT))


def work(server, session):
    while True:
        assignment, values = None, b""
        # It says to have no version of the parameters, and gets all of them.
        for pull in server.Pull(pb.PullRequest(wait_ms=20_000), metadata=session):
            part = pull.WhichOneof("part")
            if part == "finished":
                return
            if part == "assignment":
                assignment = pull.assignment
                assert assignment.codec == 0, "f32 is all that is spoken here"
            if part == "chunk":
                values += pull.chunk.values
        if assignment:
            slopes, loss = gradient(struct.unpack("<2f", values), assignment.train.batches[0])
            server.Push(pushed(assignment.lease, slopes, loss), metadata=session)


def points():
    from math import sin
    for i in range(1000):
        x = i * 0.618 % 1.0
        yield x, 3.0 * x - 1.0 + 0.1 * sin(999.0 * x)


POINTS = list(points())
endpoint = json.loads(sys.stdin.readline())["endpoint"]
server = connect(endpoint)
joined = join(server, endpoint["token"], "python/0")
assert [list(tensor.shape) for tensor in joined.layout] == [[2]], "another model"
session = (("dsgd-session", joined.session),)
end = live(server, session, joined.dead_after_ms / 1000)
work(server, session)
end.set()
