"""What schemathesis has to know beyond the document: bodies of text formats, compression, and what no schema can say.

A schema says what a request looks like; it cannot say that `from` lies before `to`, that a cursor was given by this server, that
a time is not in the future, or that a text of CSV has a header. Where the answer to a well-formed request is a refusal, the
checks here look at the reason it gives: only those reasons are let pass.
"""

import gzip
import json
import re
import zlib

import schemathesis
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

NAMES = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_/.-]{0,20}", fullmatch=True)
VALUES = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**6), 10**6)
SECONDS = st.integers(631_152_000, 1_760_000_000)


def item(draw):
    one = {"device": draw(NAMES), "ts": draw(SECONDS)}
    if draw(st.booleans()):
        return one | {"metric": draw(NAMES), "value": draw(VALUES | st.booleans())}
    return one | {"metrics": draw(st.dictionaries(NAMES, VALUES, max_size=4))}


@st.composite
def ndjson(draw):
    return "".join(json.dumps(item(draw)) + "\n" for _ in range(draw(st.integers(1, 5))))


@st.composite
def csv(draw):
    rows = range(draw(st.integers(0, 5)))
    if draw(st.booleans()):
        lines = ["device,metric,ts,value"] + [f"{draw(NAMES)},{draw(NAMES)},{draw(SECONDS)},{draw(VALUES)!r}" for _ in rows]
    else:
        metrics = sorted(draw(st.sets(NAMES.map(lambda name: f"m_{name}"), min_size=1, max_size=3)))
        lines = [f"device,ts,{','.join(metrics)}"]
        lines += [",".join([draw(NAMES), str(draw(SECONDS)), *(repr(draw(VALUES)) for _ in metrics)]) for _ in rows]
    return "\r\n".join(lines) + "\r\n"


@st.composite
def lines(draw):
    # Without a time: its unit is the parameter `precision`, which is drawn elsewhere.
    word = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)
    value = st.integers(-(10**6), 10**6).map(lambda n: f"{n}i") | st.booleans().map(str) | VALUES.map(repr)
    return "".join(f"{draw(word)},device={draw(word)} {draw(word)}={draw(value)}\n" for _ in range(draw(st.integers(1, 5))))


schemathesis.openapi.format("ndjson", ndjson())
schemathesis.openapi.format("csv", csv())
schemathesis.openapi.format("line-protocol", lines())


@schemathesis.serializer("application/x-ndjson", "text/csv")
def as_text(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode()


def stored(body):
    """A frame of zstd that holds the body as it is, in one block (RFC 8878 §3.1.1)."""
    block = (1 | len(body) << 3).to_bytes(3, "little")
    return b"\x28\xb5\x2f\xfd\xa0" + len(body).to_bytes(4, "little") + block + body


def compressed(request):
    """Makes true what the request's `Content-Encoding` says."""
    body = request.body.encode() if isinstance(request.body, str) else request.body or b""
    coding = request.headers.get("Content-Encoding")
    if body and len(body) < 2**17 and coding in ("gzip", "x-gzip", "zstd"):
        request.body = stored(body) if coding == "zstd" else gzip.compress(body, mtime=0)
        request.headers["Content-Length"] = str(len(request.body))
    return request


@schemathesis.hook
def before_call(ctx, case, kwargs):
    if case.method == "POST":
        kwargs.setdefault("auth", compressed)


def plain(request):
    """The body as it was before it was compressed."""
    body = request.body or b""
    body = body.encode() if isinstance(body, str) else body
    match request.headers.get("Content-Encoding"):
        case "gzip" | "x-gzip":
            return zlib.decompress(body, wbits=31)
        case "zstd":
            return body[12:]
        case _:
            return body


@schemathesis.check
def what_is_well_formed_is_refused_only_for_what_a_schema_cannot_say(ctx, response, case):
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code not in (400, 422):
        return
    answer, path = response.json(), case.operation.path
    if path in ("/write", "/api/v2/write"):
        # Times are in the unit of another parameter, and the bucket names a device.
        said = answer.get("message", answer.get("error"))
        assert said.startswith("partial write: ") and re.search("10 minutes after the receipt|before 1990|the device ", said), said
    elif path == "/v1/logging":
        # What a filter is, and a duration, is said in words.
        assert answer["code"] == "malformed", answer
    elif path == "/v1/token":
        assert answer["error"] in ("invalid_request", "invalid_scope"), answer
    elif answer["code"] == "invalid_parameter":
        for error in answer["errors"]:
            assert excused(error["parameter"], error["detail"], case.query or {}), f"{error} for {case.query}"
    else:
        # An item of `nothing_accepted` is looked at below.
        assert answer["code"] in ("query_too_expensive", "nothing_accepted"), answer


def excused(name, detail, query):
    value = str(query.get(name))
    match name:
        case "cursor":
            return True
        case "from" if detail.startswith("must be before"):
            return True
        case "from" | "to":
            return value.startswith("now") and years(value) > 1_500
        case "step":
            numbers = [int(digits) for digits in re.findall("[0-9]+", value)]
            return not any(numbers) or max(numbers) > 5_000
    return False


def years(relative):
    """How far a relative time goes from now, at most."""
    lengths = {"s": 3.2e-8, "m": 1.9e-6, "h": 1.14e-4, "d": 2.74e-3, "w": 1.92e-2, "M": 8.33e-2, "y": 1}
    return sum(int(amount) * lengths[unit] for amount, unit in re.findall("([0-9]+)([smhdwMy])", relative))


# What an item is refused for although it fits its schema: the clock, a device that the token would have to name, bytes for letters.
BEYOND_SCHEMAS = {"timestamp_too_far_ahead", "timestamp_too_old"}


@schemathesis.check
def an_item_is_refused_exactly_when_it_breaks_its_schema(ctx, response, case):
    request = response.request
    if case.operation.path != "/v1/readings" or case.method != "POST" or response.status_code not in (200, 422):
        return
    if not request.headers.get("Content-Type", "").startswith("application/json"):
        return
    items = json.loads(plain(request))
    items = items if isinstance(items, list) else [items]
    refused = {}
    for error in response.json()["errors"]:
        refused.setdefault(error["index"], set()).add(error["reason"])
    document = case.operation.schema.raw_schema
    schema = {"$ref": "#/components/schemas/Item", "components": document["components"]}
    checker = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    for index, one in enumerate(items[:100]):
        reasons = refused.get(index, set())
        problem = next(checker.iter_errors(one), None)
        if problem is None:
            assert reasons <= allowed(one), f"{one} fits its schema and is refused for {reasons}"
        else:
            assert reasons, f"{one} breaks its schema ({problem.message}) and is taken"


def allowed(one):
    reasons = set(BEYOND_SCHEMAS)
    if "device" not in one:
        reasons.add("invalid_device")
    if len(json.dumps(one, ensure_ascii=False).encode()) > len(json.dumps(one, ensure_ascii=False)):
        # Lengths are in bytes of UTF-8.
        reasons |= {"invalid_device", "invalid_metric", "invalid_tags"}
    return reasons
