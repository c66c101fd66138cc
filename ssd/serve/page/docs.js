"use strict";
// Lists what /openapi.json says; nothing is fetched from elsewhere.
const made = (tag, text) => Object.assign(document.createElement(tag), { textContent: text || "" });

function row(one) {
  const limits = ["minimum", "maximum", "enum", "default"].filter((key) => one.schema[key] !== undefined);
  const facts = limits.map((key) => `${key} ${[].concat(one.schema[key]).join(" | ")}`).join(", ");
  const item = made("li");
  item.append(made("code", one.name), ` ${one.description || ""} ${facts}`);
  return item;
}

async function list() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  const answer = await fetch("/openapi.json", token ? { headers: { Authorization: `Bearer ${token}` } } : {});
  const facts = await answer.json();
  if (!answer.ok) throw new Error(facts.error);
  const parts = [];
  for (const [path, ways] of Object.entries(facts.paths))
    for (const [method, way] of Object.entries(ways)) {
      const names = made("ul"), kinds = Object.keys((way.requestBody || {}).content || {}).join(", ");
      names.append(...(way.parameters || []).map(row));
      parts.push(made("h2", `${method.toUpperCase()} ${path}`), made("p", way.summary));
      if (kinds) parts.push(made("p", `Body: ${kinds}`));
      parts.push(names);
    }
  document.getElementById("routes").replaceChildren(...parts);
}

list().catch((error) => document.getElementById("routes").replaceChildren(made("p", error.message)));
