// Runs the page's script over a document that is just enough of a browser's, and says what a reader would see.
//
// Usage: HEADWATER_TOKEN=… node page.mjs BASE. Asks the server for what the page loads, as a browser does, tries some operations by
// their forms, and prints the text of the page. Ends with 1 when the script breaks, or shows what no person can read.

const base = process.argv[2];

class Node {
  constructor(name) { Object.assign(this, { name, attributes: {}, children: [], dataset: {}, given: undefined, selectedIndex: 0 }); }
  get value() { return this.given ?? (this.name === "select" ? this.children[0].attributes.value ?? this.children[0].textContent : ""); }
  set value(text) { this.given = String(text); }
  get id() { return this.attributes.id; }
  get childNodes() { return this.children.map((child) => (child instanceof Node ? child : { cloneNode: () => child })); }
  get textContent() { return this.children.map((child) => (child instanceof Node ? child.textContent : child)).join(""); }
  set textContent(text) { this.children = [String(text)]; }
  setAttribute(name, value) { this.attributes[name] = value; if (name.startsWith("data-")) this.dataset[name.slice(5)] = value; if (name === "value") this.value = value; }
  append(...children) { this.children.push(...children.map((child) => (child instanceof Node ? child : String(child)))); }
  replaceChildren(...children) { this.children = []; this.append(...children); }
  addEventListener(name, listener) { this[`on${name}`] = listener; }
  remove() { this.children = []; }
  cloneNode() { return this; }
  scrollIntoView() {}
  *walk() { yield this; for (const child of this.children) if (child instanceof Node) yield* child.walk(); }
  querySelector(name) { return [...this.walk()].find((node) => node.name === name); }
}

const page = await (await fetch(`${base}/docs`)).text();
const root = new Node("body");
for (const [, name, id] of page.matchAll(/<(\w+)[^>]* id="([^"]+)"/g)) {
  const node = new Node(name);
  node.setAttribute("id", id);
  root.append(node);
}
const missing = [];
Object.assign(globalThis, {
  document: {
    baseURI: `${base}/docs`,
    createElement: (name) => new Node(name),
    getElementById: (id) => [...root.walk()].find((node) => node.id === id) ?? (missing.push(id), new Node("missing")),
    querySelectorAll: () => [],
  },
  location: new URL(`${base}/docs`),
});
const fetched = fetch;
globalThis.fetch = (target, options) => fetched(new URL(target, `${base}/docs`), options);

const script = await (await fetched(`${base}/docs/page.js`)).text();
await (0, eval)(`(async () => { ${script.replace(/\nload\(\);\s*$/, "\nawait load();")} })()`);

/** Sends what the form of an operation says at first, and gives what came back. */
async function tried(operation) {
  const form = [...root.walk()].find((node) => node.id === operation).querySelector("form");
  form.onsubmit({ preventDefault() {} });
  const outcome = form.children.at(-1);
  for (const end = Date.now() + 10_000; /Waiting/.test(outcome.textContent) && Date.now() < end; ) await new Promise((go) => setTimeout(go, 10));
  return outcome.textContent;
}

const refused = await tried("status");
document.getElementById("token").value = process.env.HEADWATER_TOKEN;
const outcomes = { refused, status: await tried("status"), written: await tried("writeReadings"), lines: await tried("influxWriteV2"), token: await tried("issueToken") };
const expected = { refused: /^401/, status: /^200.*"received"/s, written: /^200.*"accepted": 2/s, lines: /^204/, token: /^(200|401)/ };

const text = root.textContent;
const nodes = [...root.walk()];
const ids = new Set(nodes.map((node) => node.id));
const links = nodes.filter((node) => node.name === "a").map((node) => node.attributes.href).filter((href) => href?.startsWith("#"));
const problems = [
  ...["[object", "undefined", "NaN", "could not be shown"].filter((word) => text.includes(word)).map((word) => `the page shows ${word}`),
  ...links.filter((href) => !ids.has(href.slice(1))).map((href) => `${href} leads nowhere`),
  ...Object.keys(expected).filter((name) => !expected[name].test(outcomes[name])).map((name) => `tried ${name}: ${outcomes[name]}`),
  ...(process.env.HEADWATER_TOKEN && text.includes(process.env.HEADWATER_TOKEN) ? ["the page shows the token"] : []),
  ...missing.map((id) => `there is no ${id} on the page`),
];
// Every field has its label.
const labels = new Set(nodes.filter((node) => node.name === "label").map((node) => node.attributes.for));
for (const node of nodes) {
  const isField = ["input", "select", "textarea"].includes(node.name);
  if (isField && !labels.has(node.id) && !page.includes(`for="${node.id}"`)) problems.push(`${node.id} has no label`);
}
console.log(text);
for (const problem of problems) console.error(problem);
process.exit(problems.length ? 1 : 0);
