// The part of Markdown that chat answers use, written as DOM nodes. Text only ever becomes text nodes: nothing a model
// writes can become markup, and links are shown as text.

const INLINE = /(`[^`\n]+`|\*\*[^*\n]+\*\*|\*[^*\s][^*\n]*\*)/;
const FENCE = /^\s*(```|~~~)\s*([\w+#.-]*)/;
const ITEM = /^(\s*)(?:([-*+])|(\d+)[.)])\s+(.*)$/;
const RULE_OF_TABLE = /^\s*\|?(\s*:?-+:?\s*\|)+\s*:?-*:?\s*\|?\s*$/;

function add(parent, tag) {
  const node = document.createElement(tag);
  parent.append(node);
  return node;
}

function inline(parent, text) {
  for (const part of text.split(INLINE)) {
    if (!part) continue;
    let tag = null, inner = part;
    if (part.length > 2 && part.startsWith("`") && part.endsWith("`")) [tag, inner] = ["code", part.slice(1, -1)];
    else if (part.length > 4 && part.startsWith("**") && part.endsWith("**")) [tag, inner] = ["strong", part.slice(2, -2)];
    else if (part.length > 2 && part.startsWith("*") && part.endsWith("*")) [tag, inner] = ["em", part.slice(1, -1)];
    if (tag === null) parent.append(part);
    else add(parent, tag).textContent = inner;
  }
}

function block(parent, tag, text) {
  const node = add(parent, tag);
  inline(node, text);
  return node;
}

function cells(line) {
  return line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
}

/** Writes the code block that begins at `at`; returns the line after it. */
function code(parent, lines, at) {
  const [, fence, language] = FENCE.exec(lines[at]);
  let end = at + 1;
  while (end < lines.length && !lines[end].trimStart().startsWith(fence)) end++;
  const pre = add(parent, "pre");
  if (language) pre.dataset.language = language;
  add(pre, "code").textContent = lines.slice(at + 1, end).join("\n");
  return end + 1;
}

/** Writes the list that begins at `at`, with the lists inside it; returns the line after it. */
function list(parent, lines, at) {
  const open = []; // [indentation, list], the innermost last
  for (; at < lines.length; at++) {
    const item = ITEM.exec(lines[at]);
    if (item === null) {
      const goesOn = lines[at].trim() && /^\s/.test(lines[at]);
      const blankBetween = !lines[at].trim() && at + 1 < lines.length && ITEM.test(lines[at + 1]);
      if (goesOn) inline(open.at(-1)[1].lastChild, "\n" + lines[at].trim());
      else if (!blankBetween) break;
      continue;
    }
    const [, space, bullet, number, text] = item;
    const tag = bullet ? "ul" : "ol";
    while (open.length > 1 && space.length < open.at(-1)[0]) open.pop();
    if (open.length && space.length <= open.at(-1)[0] && open.at(-1)[1].localName !== tag) {
      if (open.length === 1) return list(parent, lines, at);
      open.pop();
    }
    if (!open.length || space.length > open.at(-1)[0]) {
      const node = add(open.length ? open.at(-1)[1].lastChild : parent, tag);
      if (number) node.start = Number(number);
      open.push([space.length, node]);
    }
    block(open.at(-1)[1], "li", text);
  }
  return at;
}

/** Writes the table whose head is at `at`; returns the line after it. */
function table(parent, lines, at) {
  const node = add(add(parent, "div"), "table");
  node.parentNode.className = "table";
  const head = add(node, "tr");
  for (const cell of cells(lines[at])) block(head, "th", cell);
  for (at += 2; at < lines.length && lines[at].includes("|"); at++) {
    const row = add(node, "tr");
    for (const cell of cells(lines[at])) block(row, "td", cell);
  }
  return at;
}

/** Replaces the children of `parent` by the rendering of `text`. */
export function render(parent, text) {
  parent.replaceChildren();
  const lines = text.split("\n");
  let paragraph = null;
  for (let at = 0; at < lines.length; ) {
    const line = lines[at];
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    if (paragraph !== null && line.trim() && !heading && !FENCE.test(line) && !ITEM.test(line)) {
      paragraph.append("\n");
      inline(paragraph, line);
      at++;
      continue;
    }
    paragraph = null;
    if (FENCE.test(line)) at = code(parent, lines, at);
    else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) add(parent, "hr"), at++;
    else if (ITEM.test(line)) at = list(parent, lines, at);
    else if (line.includes("|") && RULE_OF_TABLE.test(lines[at + 1] ?? "")) at = table(parent, lines, at);
    else if (/^\s*>/.test(line)) {
      const begin = at;
      while (at < lines.length && /^\s*>/.test(lines[at])) at++;
      render(add(parent, "blockquote"), lines.slice(begin, at).map((l) => l.replace(/^\s*> ?/, "")).join("\n"));
    } else {
      if (heading) block(parent, "h" + Math.min(4, heading[1].length + 1), heading[2]);
      else if (line.trim()) paragraph = block(parent, "p", line);
      at++;
    }
  }
}
