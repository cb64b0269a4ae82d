"""Checks the API's document without a server: is it OpenAPI 3.1, and do its examples fit their own schemas?

Usage: check.py OPENAPI.json. Prints what is wrong, a line each, and ends with 1 if anything is.
"""

import json
import sys

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator


def resolved(document, value):
    if isinstance(value, dict) and "$ref" in value:
        value_of = document
        for name in value["$ref"].removeprefix("#/").split("/"):
            value_of = value_of[name.replace("~1", "/").replace("~0", "~")]
        return value_of
    return value


def examples(document):
    """Every example with its schema, and where it stands."""
    for name, schema in document["components"]["schemas"].items():
        yield from of_schema(f"schema {name}", schema)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            where = f"{method.upper()} {path}"
            for parameter in operation.get("parameters", []):
                parameter = resolved(document, parameter)
                yield from of_media(f"{where} {parameter['name']}", parameter)
            body = resolved(document, operation.get("requestBody", {}))
            for media, content in body.get("content", {}).items():
                yield from of_media(f"{where} body {media}", content, needed=True)
            for status, answer in operation["responses"].items():
                for media, content in resolved(document, answer).get("content", {}).items():
                    yield from of_media(f"{where} {status} {media}", content)


def of_schema(where, schema):
    for number, example in enumerate(schema.get("examples", [])):
        yield f"{where}, example {number}", schema, example


def of_media(where, content, needed=False):
    if needed and not content.get("examples"):
        yield f"{where}: there is no example", False, None
    for name, example in content.get("examples", {}).items():
        yield f"{where}, example {name!r}", content["schema"], example["value"]
    if isinstance(content["schema"], dict):
        yield from of_schema(where, content["schema"])


def main(path):
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    problems = [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in OpenAPIV31SpecValidator(document).iter_errors()]
    n_examples = 0
    for where, schema, example in examples(document):
        n_examples += 1
        # A schema beside the components that it points at is a document of its own.
        whole = {"allOf": [schema], "components": document["components"]}
        checker = Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER)
        problems.extend(f"{where}: {error.message}" for error in checker.iter_errors(example))
    for problem in problems:
        print(problem)
    print(f"{n_examples} examples, {len(problems)} problems")
    return 1 if problems or n_examples < 50 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
