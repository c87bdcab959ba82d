// The part of Markdown that chat answers use, written as DOM nodes. Text only ever becomes text nodes: nothing a model
// writes can become markup, and links are shown as text.

const INLINE = /(`[^`\n]+`|\*\*[^*\n]+\*\*|\*[^*\s][^*\n]*\*)/;

function inline(parent, text) {
  for (const part of text.split(INLINE)) {
    if (!part) continue;
    let tag = null, inner = part;
    if (part.length > 2 && part.startsWith("`") && part.endsWith("`")) [tag, inner] = ["code", part.slice(1, -1)];
    else if (part.length > 4 && part.startsWith("**") && part.endsWith("**")) [tag, inner] = ["strong", part.slice(2, -2)];
    else if (part.length > 2 && part.startsWith("*") && part.endsWith("*")) [tag, inner] = ["em", part.slice(1, -1)];
    if (tag === null) parent.append(part);
    else {
      const node = document.createElement(tag);
      node.textContent = inner;
      parent.append(node);
    }
  }
}

function block(parent, tag, text) {
  const node = document.createElement(tag);
  inline(node, text);
  parent.append(node);
  return node;
}

/** Replaces the children of `parent` by the rendering of `text`. */
export function render(parent, text) {
  parent.replaceChildren();
  let fence = null, list = null, paragraph = null;
  for (const line of text.split("\n")) {
    if (fence !== null) {
      if (/^\s*```/.test(line)) fence = null;
      else fence.textContent += (fence.textContent ? "\n" : "") + line;
      continue;
    }
    if (/^\s*```/.test(line)) {
      const pre = document.createElement("pre");
      fence = document.createElement("code");
      pre.append(fence);
      parent.append(pre);
      list = paragraph = null;
      continue;
    }
    const heading = /^(#{1,4})\s+(.*)$/.exec(line);
    const bullet = /^\s*[-*+]\s+(.*)$/.exec(line);
    const numbered = /^\s*(\d+)[.)]\s+(.*)$/.exec(line);
    if (heading) {
      block(parent, "h" + Math.min(4, heading[1].length + 1), heading[2]);
      list = paragraph = null;
    } else if (bullet || numbered) {
      const tag = bullet ? "ul" : "ol";
      if (list === null || list.localName !== tag) {
        list = document.createElement(tag);
        if (numbered) list.start = Number(numbered[1]);
        parent.append(list);
      }
      block(list, "li", bullet ? bullet[1] : numbered[2]);
      paragraph = null;
    } else if (!line.trim()) {
      list = paragraph = null;
    } else if (paragraph !== null) {
      paragraph.append("\n");
      inline(paragraph, line);
    } else {
      list = null;
      paragraph = block(parent, "p", line);
    }
  }
}
