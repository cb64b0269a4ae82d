// Shows openapi.json: operations by tag, with parameters, bodies, answers, a curl line and a form to try each; then the schemas.
//
// Knows OpenAPI 3.1 as far as the document uses it. Everything is made of DOM nodes: no text of the document is ever read as
// HTML. The token lives in its input field and goes nowhere but into requests to this server.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
/** What is shown of an answer, in characters; the browser need not lay out a page of 100,000 rows. */
const MOST_SHOWN = 100_000;
let api = {};

/** An element with attributes and children, lists of lists too; children that are no nodes become text. */
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== false && value !== undefined) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null));
  return element;
}

/** Paragraphs, `code` and **bold** of a description. */
function prose(text) {
  return (text ?? "").split(/\n\n+/).filter(Boolean).map((paragraph) => {
    const pieces = paragraph.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((piece) => {
      if (/^`.+`$/.test(piece)) return el("code", {}, piece.slice(1, -1));
      if (/^\*\*.+\*\*$/.test(piece)) return el("strong", {}, piece.slice(2, -2));
      return piece;
    });
    return el("p", {}, pieces);
  });
}

/** The value, or what its `$ref` leads to. */
function resolved(value) {
  if (!value || !value.$ref) return value ?? {};
  return value.$ref.slice(2).split("/").reduce((at, name) => at[name.replace(/~1/g, "/").replace(/~0/g, "~")], api);
}

/** A schema in a line, with links to the schemas that it names. */
function typeOf(schema) {
  if (schema === false) return ["not allowed"];
  if (schema === true || !schema) return ["anything"];
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return [el("a", { href: `#schema-${name}` }, name)];
  }
  for (const [keyword, between] of [["anyOf", " or "], ["oneOf", " or "], ["allOf", " and "]]) {
    if (schema[keyword] && !schema.type) {
      const parts = schema[keyword].filter((part) => !part.required || part.properties || part.type);
      if (parts.length) return parts.flatMap((part, n) => (n ? [between, ...typeOf(part)] : typeOf(part)));
    }
  }
  if ("const" in schema) return [JSON.stringify(schema.const)];
  if (schema.enum) return [schema.enum.map((one) => JSON.stringify(one)).join(" | ")];
  const type = [schema.type ?? "object"].flat().join(" | ");
  if (type === "array") return ["list of ", ...typeOf(schema.items)];
  if (type === "object" && schema.additionalProperties) return ["object of ", ...typeOf(schema.additionalProperties)];
  return [[type, ...limits(schema)].join(", ")];
}

function limits(schema) {
  const { minimum, maximum, minLength, maxLength, maxItems, maxProperties, format, pattern } = schema;
  const between = (low, high, what) => (low === undefined && high === undefined ? [] : [`${low ?? "…"} to ${high ?? "…"}${what}`]);
  return [
    ...(format ? [format] : []),
    ...(Math.abs(maximum) > 1e300 ? [] : between(minimum, maximum, "")),
    ...between(minLength, maxLength, " characters"),
    ...between(undefined, maxItems, " items"),
    ...between(undefined, maxProperties, " members"),
    ...(pattern && pattern.length < 60 ? [`/${pattern}/`] : []),
  ];
}

function table(heads, rows) {
  if (!rows.length) return [];
  const head = el("thead", {}, el("tr", {}, heads.map((text) => el("th", { scope: "col" }, text))));
  const lines = rows.map(([first, ...rest]) => el("tr", {}, el("th", { scope: "row" }, first), rest.map((cell) => el("td", {}, cell))));
  return [el("div", { class: "scroll" }, el("table", {}, head, el("tbody", {}, lines)))];
}

const type = (schema) => el("span", { class: "type" }, typeOf(schema));
const titled = (title, nodes) => (nodes.length ? [el("h4", {}, title), ...nodes] : []);

function parametersOf(operation) {
  return (operation.parameters ?? []).map(resolved);
}

function parameterTable(operation) {
  return table(["Parameter", "Type", "Meaning"], parametersOf(operation).map((parameter) => [
    [parameter.name === "tags" ? "tag.<name>" : parameter.name, parameter.required ? el("span", { class: "required" }, " required") : ""],
    [el("span", { class: "note" }, `${parameter.in}, `), type(parameter.schema), fallback(resolved(parameter.schema))],
    prose(parameter.description),
  ]));
}

function fallback(schema) {
  return schema.default === undefined ? "" : el("span", { class: "note" }, `; default ${[schema.default].flat().join(",")}`);
}

/** The examples of a parameter, a body or an answer, or those of its schema. */
function examplesOf({ examples, schema }) {
  if (examples) return Object.values(examples).map((example) => example.value);
  return resolved(schema).examples ?? [];
}

/** A value as it is sent in a body of that media type. */
function written(value, media) {
  if (typeof value === "string") return value;
  return media === "application/x-www-form-urlencoded" ? new URLSearchParams(value).toString() : JSON.stringify(value, null, 2);
}

function bodies(operation) {
  const body = resolved(operation.requestBody);
  const kinds = Object.entries(body.content ?? {}).map(([media, content]) => el("details", {},
    el("summary", {}, media, " ", type(content.schema)),
    prose(content.schema.description),
    media.endsWith("urlencoded") ? properties(resolved(content.schema)) : [],
    examplesOf(content).map((example) => el("pre", {}, el("code", {}, written(example, media))))));
  return titled(body.required ? "Body" : "Body (may be empty)", [...prose(body.description), ...kinds]);
}

function answers(operation) {
  const rows = Object.entries(operation.responses).map(([status, answer]) => {
    const { description, content = {}, headers = {} } = resolved(answer);
    const kinds = Object.entries(content).map(([media, kind]) => {
      const codes = resolved(kind.schema).properties?.code;
      return el("div", {}, `${media} `, media.startsWith("application/problem") ? "" : type(kind.schema), codes ? el("div", { class: "type" }, "code: ", typeOf(codes)) : "");
    });
    const names = Object.keys(headers).filter((name) => name !== "X-Request-Id");
    return [el("span", { class: status < "400" ? "good" : "bad" }, status), prose(description), [kinds, names.length ? el("div", { class: "note" }, names.join(", ")) : ""]];
  });
  return titled("Answers", table(["Status", "When", "Content and headers"], rows));
}

function permission(operation) {
  const ways = operation.security ?? [];
  if (!ways.length) return el("p", { class: "note" }, "Anyone may ask.");
  if (ways.some((way) => "client" in way)) return el("p", { class: "note" }, "A client shows its secret, by HTTP Basic or in the form.");
  const scope = ways.flatMap((way) => way.bearer ?? [])[0];
  return el("p", { class: "note" }, scope ? ["Needs a token with the scope ", el("code", {}, scope), "."] : "Needs a token, whatever its scopes.");
}

/** The form to try an operation, its curl line, and what came back. */
function trial(method, path, operation) {
  const id = operation.operationId;
  const fields = parametersOf(operation).map((parameter) => field(id, parameter));
  const kinds = Object.entries(resolved(operation.requestBody).content ?? {});
  const media = kinds.length ? el("select", { id: `${id}-media` }, kinds.map(([name]) => el("option", {}, name))) : undefined;
  const body = kinds.length ? el("textarea", { id: `${id}-body`, rows: 6, spellcheck: "false" }) : undefined;
  const fill = () => {
    const [name, content] = kinds[media.selectedIndex];
    body.value = written(examplesOf(content)[0] ?? "", name);
  };
  if (body) fill();
  const command = el("code");
  const outcome = el("div", { class: "wide", role: "status", "aria-live": "polite" });
  const asked = () => request(method, path, operation, fields, media?.value, body?.value);
  const show = () => { command.textContent = asCurl(asked()); };
  media?.addEventListener("change", fill);
  const form = el("form", { class: "try", oninput: show, onchange: show, onsubmit: (event) => { event.preventDefault(); send(asked(), outcome); } },
    fields.flatMap(({ label, input }) => [label, input]),
    media ? [el("label", { for: media.id }, "Content-Type"), media, el("label", { for: body.id }, "Body"), body] : [],
    el("div", { class: "wide row" }, el("button", { type: "submit" }, "Send"), el("span", { class: "note" }, `${method.toUpperCase()} to this server`)),
    outcome);
  show();
  const copy = el("button", { type: "button", onclick: () => copied(command.textContent, copy) }, "Copy");
  return [el("h4", {}, "With curl"), el("pre", {}, command), el("div", { class: "row" }, copy), el("details", {}, el("summary", {}, "Try it"), form)];
}

async function copied(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select it and copy";
  }
}

/** The input of a parameter. Lists take a value a line; nothing is sent of an empty field. */
function field(id, parameter) {
  const schema = resolved(parameter.schema);
  const name = `${id}-${parameter.in}-${parameter.name}`;
  const label = el("label", { for: name }, parameter.name === "tags" ? "tag.<name>" : parameter.name);
  const first = examplesOf(parameter)[0];
  const isList = (schema.type === "array" && parameter.explode !== false) || schema.type === "object";
  const shown = schema.type === "object" ? Object.entries(first ?? {}).map((pair) => pair.join("=")).join("\n") : [first ?? ""].flat().join(isList ? "\n" : ",");
  const attributes = { id: name, placeholder: shown, required: parameter.required };
  let input;
  if (schema.enum) input = el("select", attributes, el("option", { value: "" }, "–"), schema.enum.map((one) => el("option", {}, one)));
  else input = el(isList ? "textarea" : "input", { ...attributes, ...(isList ? { rows: 1 } : { type: "text" }), spellcheck: "false" });
  if (parameter.required) input.value = shown;
  return { parameter, label, input, isList };
}

/** What the form says, as a request. */
function request(method, path, operation, fields, media, body) {
  const query = [];
  const headers = {};
  let target = path.slice(1);
  for (const { parameter, input, isList } of fields) {
    if (input.value === "") continue;
    const lines = isList ? input.value.split("\n").filter(Boolean) : [input.value];
    if (parameter.in === "path") target = target.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (parameter.in === "header") headers[parameter.name] = input.value;
    else if (parameter.name === "tags") query.push(...lines.map((line) => line.split("=").map(encodeURIComponent).join("=")));
    else query.push(...lines.map((line) => `${parameter.name}=${encodeURIComponent(line)}`));
  }
  if (media && body) headers["Content-Type"] = media;
  const takesToken = (operation.security ?? []).some((way) => "bearer" in way);
  const url = new URL(target + (query.length ? `?${query.join("&")}` : ""), new URL(".", document.baseURI));
  return { method: method.toUpperCase(), url, headers, takesToken, body: body || undefined };
}

function asCurl({ method, url, headers, takesToken, body }) {
  const quoted = (text) => `'${text.replace(/'/g, "'\\''")}'`;
  const parts = ["curl -sS"];
  if (method !== (body ? "POST" : "GET")) parts.push(`-X ${method}`);
  parts.push(quoted(url.href));
  if (takesToken) parts.push('-H "Authorization: Bearer $HEADWATER_TOKEN"');
  for (const [name, value] of Object.entries(headers)) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (body) parts.push(`--data-binary ${quoted(body)}`);
  return parts.join(" ");
}

async function send({ method, url, headers, takesToken, body }, outcome) {
  outcome.replaceChildren(el("p", { class: "note" }, "Waiting for the answer…"));
  const token = document.getElementById("token").value.trim();
  if (takesToken && token) headers = { ...headers, Authorization: `Bearer ${token}` };
  const begun = performance.now();
  try {
    const answer = await fetch(url, { method, headers, body, credentials: "omit", cache: "no-store", redirect: "error" });
    const text = await answer.text();
    const took = Math.round(performance.now() - begun);
    const head = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    outcome.replaceChildren(
      el("p", { class: answer.ok ? "good" : "bad" }, el("strong", {}, `${answer.status} ${answer.statusText}`), ` in ${took} ms, ${text.length} characters`),
      el("details", {}, el("summary", {}, "Headers"), el("pre", {}, head)),
      text ? el("pre", {}, el("code", {}, shownText(text, answer.headers.get("content-type") ?? ""))) : "");
  } catch (problem) {
    outcome.replaceChildren(el("p", { class: "bad" }, `No answer: ${problem.message}`));
  }
}

function shownText(text, media) {
  let shown = text;
  if (/json/.test(media) && text.length < MOST_SHOWN) {
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* It is shown as it came. */ }
  }
  return shown.length > MOST_SHOWN ? `${shown.slice(0, MOST_SHOWN)}\n… and ${shown.length - MOST_SHOWN} characters more` : shown;
}

function card(method, path, operation) {
  return el("article", { id: operation.operationId, "data-words": [method, path, operation.summary, JSON.stringify(operation.security ?? "")].join(" ").toLowerCase() },
    el("h3", {}, el("span", { class: `method ${method}` }, method.toUpperCase()), el("span", { class: "path" }, path)),
    el("p", {}, el("strong", {}, operation.summary)),
    prose(operation.description), permission(operation),
    titled("Parameters", parameterTable(operation)), bodies(operation), answers(operation), trial(method, path, operation));
}

function properties(schema) {
  const rows = Object.entries(schema.properties ?? {}).filter(([, value]) => value !== false).map(([name, value]) => [
    [name, schema.required?.includes(name) ? el("span", { class: "required" }, " always") : ""], type(value), prose(value.description ?? resolved(value).description),
  ]);
  for (const [pattern, value] of Object.entries(schema.patternProperties ?? {})) rows.push([el("code", {}, pattern), type(value), ""]);
  return table(["Member", "Type", "Meaning"], rows);
}

function schemaCard([name, schema]) {
  return el("article", { id: `schema-${name}`, "data-words": `schema ${name}`.toLowerCase() },
    el("h3", {}, name), prose(schema.description), el("p", {}, type(schema)), properties(schema),
    schema.properties ? (schema.examples ?? []).map((example) => el("pre", {}, el("code", {}, JSON.stringify(example, null, 2)))) : []);
}

/** A section of the page and its entry in the contents. */
function section(title, note, cards) {
  const links = cards.map((item) => el("li", { "data-for": item.id }, el("a", { href: `#${item.id}` }, [...item.querySelector("h3").childNodes].map((node) => node.cloneNode(true)))));
  document.getElementById("contents").append(el("div", {}, el("h2", {}, title), el("ul", {}, links)));
  return el("section", { "aria-label": title }, el("h2", {}, title), prose(note), cards);
}

function filtered(event) {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const article of document.querySelectorAll("article")) {
    const hidden = !words.every((word) => article.dataset.words.includes(word));
    article.hidden = hidden;
    document.querySelector(`[data-for="${article.id}"]`).hidden = hidden;
  }
  for (const part of document.querySelectorAll("main > section, #contents > div")) {
    part.hidden = words.length > 0 && !part.querySelector("article:not([hidden]), li:not([hidden])");
  }
}

function show() {
  const operations = Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ method, path, operation: item[method] })));
  const sections = api.tags.map(({ name, description }) =>
    section(name, description, operations.filter(({ operation }) => operation.tags.includes(name)).map(({ method, path, operation }) => card(method, path, operation))));
  sections.push(section("Schemas", "", Object.entries(api.components.schemas).map(schemaCard)));
  document.getElementById("version").textContent = api.info.version;
  document.getElementById("state").remove();
  document.getElementById("operations").append(el("section", { "aria-label": "In general" }, prose(api.info.summary), prose(api.info.description)), ...sections);
  document.getElementById("filter").addEventListener("input", filtered);
  // What the address points at is only there now.
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

async function load() {
  document.getElementById("credentials").addEventListener("submit", (event) => event.preventDefault());
  try {
    const answer = await fetch("openapi.json", { credentials: "omit" });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    api = await answer.json();
    show();
  } catch (problem) {
    document.getElementById("state").textContent = `openapi.json could not be shown: ${problem.message}`;
  }
}

load();
